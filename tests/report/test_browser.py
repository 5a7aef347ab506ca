"""The pages in a real browser: they open from the disk, say nothing to the console, and do what they are asked."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from skiplight import compare
from skiplight.cli import main
from skiplight.evaluation.neighbors import neighbors
from skiplight.vectors.word_vectors import WordVectors
from tests.support.browser import chromium, complaints, prefer, resize, visit
from tests.support.runs import SMALL, train_arguments
from tests.support.texts import write_texts

COLLISIONS = """
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const seen = (text) => text.textContent.trim() && text.getClientRects().length;
  const texts = [...svg.querySelectorAll("text")].filter(seen);
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  for (const [i, [text, a]] of boxes.entries()) {
    if (a.left < -1 || a.right > innerWidth + 1) found.push(["outside", text]);
    for (const [other, b] of boxes.slice(i + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      if (across > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2) found.push([text, other]);
    }
  }
}
return found;
"""
"""Texts of charts that lie over each other, or outside of the page."""

SECONDS = 2.0
"""So long may a page take to open."""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with chromium() as found:
        yield found


@pytest.fixture
def browser(chrome: Chrome) -> Chrome:
    """The browser with a desk's screen in light colours, whatever the test before made of it."""
    prefer(chrome)
    resize(chrome, 1280, 900)
    return chrome


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_texts(folder / "texts", documents=40)
    words = [word for word, _ in Counter((folder / "texts" / "0.txt").read_text().split()).most_common(60)]
    (folder / "pairs.tsv").write_text("".join(f"{words[n]}\t{words[-n - 1]}\t{n % 7}\n" for n in range(25)))
    questions = "".join(" ".join(words[n : n + 4]) + "\n" for n in range(30))
    (folder / "questions.txt").write_text(f": first\n{questions}: second\n{questions}")
    (folder / "sequences.txt").write_text(
        "".join(f"{words[n]} {words[n + 1]} {words[n + 2 * (n % 2)]}\n" for n in range(40))
    )
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run with its page, t-SNE and all."""
    evaluation = [f"evaluation.similarity=[{folder / 'pairs.tsv'}]", f"evaluation.analogy=[{folder / 'questions.txt'}]"]
    evaluation.append(f"evaluation.hit_rate=[{folder / 'sequences.txt'}]")
    options = [*evaluation, "evaluation.every=20000", "data.heldout=0.1", "trainer.max_epochs=3"]
    assert main(train_arguments(folder / "texts" / "*.txt", folder, folder / "run", *options)) == 0
    assert main(["report", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def page(browser: Chrome, run: Path) -> Iterator[Chrome]:
    """The page of the run, open; whatever a test does must not make the console complain."""
    visit(browser, run / "report.html")
    yield browser
    assert complaints(browser) == []


@pytest.fixture(scope="module")
def study(folder: Path) -> Path:
    """A multirun's folder with a report; one of its trials had a page before, with a map."""
    texts = folder / "texts" / "*.txt"
    options = ["noise.exponent=-0.5,0.75", "optim.lr=0.01,0.05", "trainer.max_epochs=1", "data.heldout=0.1"]
    assert main([*train_arguments(texts, folder, folder / "study", *options), "-m"]) == 0
    assert not list((folder / "study").rglob("report.html"))
    assert main(["report", str(folder / "study" / "1")]) == 0
    assert main(["report", str(folder / "study"), "--metric", "heldout/perplexity"]) == 0
    return folder / "study"


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Path:
    data = [
        "data=files",
        f"data.path='{folder / 'texts' / '*.txt'}'",
        f"data.store={folder / 'stores'}",
        "data.heldout=0.1",
    ]
    small = [*SMALL, "trainer.max_epochs=1", "compare.seeds=2", "compare.points=3"]
    variants = "compare.variants={ns: [], nce: ['objective=nce']}"
    compare(*data, *small, variants, run_dir=folder / "comparison")
    return folder / "comparison"


def find(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def all_of(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def words_of(run: Path) -> list[str]:
    return WordVectors.load(run).vocabulary.words


def listed(browser: Chrome) -> tuple[str, list[tuple[str, float]]]:
    """The word whose neighbours are shown, and these with their cosines."""
    rows = all_of(browser, ".near li")
    found = [
        (row.find_element(By.TAG_NAME, "span").text, float(row.find_element(By.TAG_NAME, "output").text))
        for row in rows
    ]
    return find(browser, ".near h3").text, found


def drawing(browser: Chrome) -> str:
    """The canvas of the map as it is."""
    return browser.execute_script("return document.querySelector('canvas').toDataURL()")


def search(browser: Chrome, typed: str) -> None:
    box = find(browser, "#search")
    box.clear()
    box.send_keys(typed)


@pytest.mark.parametrize("kind", ["run", "study", "comparison"])
def test_a_page_opens_at_once_from_the_disk_and_is_small(
    browser: Chrome, kind: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind) / "report.html"
    assert path.stat().st_size < 10_000_000
    took = []
    for _ in range(3):  # other processes may be in the way of one of them
        visit(browser, path)
        took.append(browser.execute_script("return performance.now()") / 1000)
    assert min(took) < SECONDS
    assert complaints(browser) == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    for chart in all_of(browser, "figure"):
        assert chart.find_elements(By.CSS_SELECTOR, "svg [d], svg circle, svg rect"), chart.text


def test_a_word_that_is_searched_shows_the_nearest_words_of_the_exact_vectors(page: Chrome, run: Path) -> None:
    vectors = WordVectors.load(run)
    before = drawing(page)
    wanted = words_of(run)[33]
    search(page, wanted[:4])
    assert find(page, "#found li").text.startswith(wanted[:4])
    search(page, wanted)
    find(page, "#search").send_keys(Keys.ENTER)
    word, found = listed(page)
    assert word == wanted
    exact = neighbors(vectors, wanted)
    assert [near for near, _ in found] == [near for near, _ in exact]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for _, cosine in exact], abs=0.0005001)
    WebDriverWait(page, 5).until(lambda it: drawing(it) != before)


def test_a_word_that_is_not_found_leaves_no_other_word_standing(page: Chrome, run: Path) -> None:
    search(page, words_of(run)[33])
    find(page, "#search").send_keys(Keys.ENTER)
    search(page, "xyzzy")
    assert find(page, ".near h3").text == "xyzzy"
    assert find(page, ".near .note").text.startswith("not among the ")
    assert not all_of(page, ".near li")


def test_a_word_is_found_as_the_command_finds_it(page: Chrome, run: Path) -> None:
    rarest = words_of(run)[-1]
    search(page, rarest.upper())
    find(page, "#search").send_keys(Keys.ENTER)
    assert listed(page)[0] == rarest


def test_a_neighbour_that_is_clicked_shows_its_own(page: Chrome) -> None:
    _, found = listed(page)
    all_of(page, ".near li button")[3].click()
    assert listed(page)[0] == found[3][0]


def test_a_word_that_is_clicked_in_the_map_is_shown(page: Chrome, run: Path) -> None:
    """Words lie where the page's own data says."""
    data = json.loads(find(page, "#data").get_attribute("textContent"))
    canvas = find(page, "canvas")
    width, height = canvas.size["width"], canvas.size["height"]
    xs, ys = data["map"]["layouts"]["t-SNE"]
    word = 20
    dx = (xs[word] - 0.5) * min(width - 70, 1.4 * (height - 40))
    dy = (ys[word] - 0.5) * min(height - 40, 1.4 * (width - 70))
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    ActionChains(page).move_to_element_with_offset(canvas, round(dx), round(dy)).click().perform()
    assert listed(page)[0] == words_of(run)[word]


def test_the_map_pans_zooms_and_changes_its_layout(page: Chrome) -> None:
    canvas = find(page, "canvas")
    seen = {drawing(page)}

    def changed() -> None:
        WebDriverWait(page, 5).until(lambda it: drawing(it) not in seen)
        seen.add(drawing(page))

    find(page, ".buttons button").click()
    changed()
    canvas.send_keys("+")
    changed()
    canvas.send_keys(Keys.ARROW_LEFT)
    changed()
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    ActionChains(page).drag_and_drop_by_offset(canvas, 60, 30).perform()
    changed()
    find(page, "fieldset input[value=PCA]").click()
    changed()


def test_sliders_redraw_the_noise_and_say_what_falls_on_rare_words(page: Chrome) -> None:
    def shown() -> tuple[str, list[str]]:
        return find(page, "#rare").text, [path.get_attribute("d") for path in all_of(page, "#noise svg path")]

    share = lambda: float(re.search(r"([\d.]+)\s*%", find(page, "#rare").text)[1])  # type: ignore[index] # noqa: E731
    alpha = find(page, "#alpha")
    assert alpha.get_attribute("value") == "0.75"
    trained, at_first = share(), shown()
    alpha.send_keys(Keys.ARROW_LEFT)
    assert alpha.get_attribute("value") == "0.7"
    assert share() > trained
    assert shown()[1] != at_first[1]
    alpha.send_keys(Keys.HOME)
    assert alpha.get_attribute("value") == "-1"
    rarest = share()
    assert rarest > 90
    table = find(page, "#noise table").text
    find(page, "#negatives").send_keys(Keys.ARROW_RIGHT)
    assert share() == rarest  # of the draws, however many there are
    assert find(page, "#noise table").text != table


def test_a_uniform_noise_draws_rare_words_as_their_number_says(page: Chrome, run: Path) -> None:
    page.execute_script("const a = document.getElementById('alpha'); a.value = 0; a.dispatchEvent(new Event('input'))")
    shares = [float(found) for found in re.findall(r"([\d.]+)\s*%", find(page, "#rare").text)]
    size = len(words_of(run))
    head = 10 if size < 400 else 100
    assert shares[0] == pytest.approx(100 * (1 - head / size), abs=0.06)
    assert shares[2] == pytest.approx(50, abs=0.06 + 50 / size)


def test_curves_are_drawn_against_tokens_or_seconds(page: Chrome) -> None:
    def lines() -> list[str]:
        return [path.get_attribute("d") for path in all_of(page, "#training svg path")]

    titles = [title.text for title in all_of(page, "#training h3")]
    assert {"Training loss, a pair", "Held-out perplexity", "pairs", "questions", "Words a second"} <= set(titles)
    before = lines()
    find(page, "#training input[value=seconds]").click()
    assert lines() != before


def test_the_worst_pairs_are_named_and_every_pair_is_a_dot(page: Chrome, run: Path) -> None:
    data = json.loads(find(page, "#data").get_attribute("textContent"))
    pairs = data["similarity"]["pairs"]
    assert len(all_of(page, "#similarity circle")) >= len(pairs) == data["summary"]["evaluation"]["pairs"]["pairs"]
    worst = max(pairs, key=lambda pair: pair[4])
    assert f"{worst[0]} – {worst[1]}" in find(page, "#similarity table").text


def test_settings_that_differ_come_first(page: Chrome) -> None:
    first, *others = all_of(page, "#settings details")
    assert "model.dim" in first.text
    assert "sampling.window" not in first.text
    assert first.get_attribute("open")
    assert not any(other.get_attribute("open") for other in others)


def test_colours_follow_the_system_and_the_button(page: Chrome) -> None:
    def lightness() -> tuple[bool, str]:
        paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(float, re.findall(r"[\d.]+", paper)[:3])) > 400, drawing(page)

    light, map_in_light = lightness()
    assert light
    find(page, "#theme").click()
    dark, map_in_dark = lightness()
    assert (dark, map_in_dark != map_in_light) == (False, True)
    find(page, "#theme").click()
    assert lightness()[0]
    prefer(page, "dark")
    page.refresh()
    assert not lightness()[0]


@pytest.mark.parametrize("kind", ["run", "study", "comparison"])
def test_nothing_is_wider_than_a_phone(browser: Chrome, kind: str, request: pytest.FixtureRequest) -> None:
    resize(browser, 360, 740)
    visit(browser, request.getfixturevalue(kind) / "report.html")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    assert complaints(browser) == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["run", "study", "comparison"])
def test_no_text_of_a_chart_lies_over_another_or_outside(
    browser: Chrome, kind: str, width: int, request: pytest.FixtureRequest
) -> None:
    resize(browser, width, 900)
    visit(browser, request.getfixturevalue(kind) / "report.html")
    assert browser.execute_script(COLLISIONS) == []


def test_all_can_be_reached_by_the_tab_key(page: Chrome) -> None:
    reached = []
    find(page, "body").send_keys(Keys.TAB)
    for _ in range(60):
        focused = page.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.get_attribute("class") or focused.tag_name)
        outlined = page.execute_script(
            "const e = document.activeElement; return getComputedStyle(e).outlineStyle !== 'none'"
            " || getComputedStyle(e.closest('label') ?? e).outlineStyle !== 'none'"
        )
        assert outlined or focused.tag_name == "body", reached[-1]
        ActionChains(page).send_keys(Keys.TAB).perform()
    order = [reached.index(name) for name in ("skip", "theme", "canvas", "search", "alpha", "negatives", "summary")]
    assert order == sorted(order)


def test_a_page_is_printed_on_light_paper_without_its_controls(page: Chrome) -> None:
    prefer(page, "dark", "print")
    shown = {name: find(page, name).is_displayed() for name in ("header", "#search", ".buttons", "h1", "canvas")}
    assert shown == {"header": False, "#search": False, ".buttons": False, "h1": True, "canvas": True}
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


def test_trials_are_sorted_by_a_column_and_lead_to_their_pages(browser: Chrome, study: Path) -> None:
    visit(browser, study / "report.html")
    links = [link.get_attribute("href").rpartition("study/")[2] for link in all_of(browser, "#trials a")]
    assert links == [f"{number}/report.html" for number in range(4)]

    def column() -> list[float]:
        heads = [head.text for head in all_of(browser, "#trials th")]
        at = next(i for i, head in enumerate(heads) if head.startswith("held-out perplexity"))
        return [
            float(row.find_elements(By.TAG_NAME, "td")[at].text.replace(",", ""))
            for row in all_of(browser, "#trials tbody tr")
        ]

    head = next(head for head in all_of(browser, "#trials th button") if head.text.startswith("held-out perplexity"))
    head.click()
    assert column() == sorted(column(), reverse=True)
    head.click()
    assert column() == sorted(column())
    browser.find_element(By.LINK_TEXT, "1").click()
    assert find(browser, "h1").text == "1"
    assert complaints(browser) == []


def test_the_pages_of_trials_are_made_but_one_with_a_map_is_left_as_it_is(browser: Chrome, study: Path) -> None:
    maps = []
    for number in range(4):
        visit(browser, study / str(number) / "report.html")
        maps.append(bool(all_of(browser, "canvas")))
        assert all_of(browser, "#training svg path")
        assert complaints(browser) == []
    assert maps == [False, True, False, False]


def test_the_last_column_of_trials_is_seen_and_their_curves_lie_over_each_other(browser: Chrome, study: Path) -> None:
    visit(browser, study / "report.html")
    last = all_of(browser, "#trials th")[-1]
    assert last.text.startswith("seconds")
    assert last.rect["x"] + last.rect["width"] <= 1280
    assert (
        len(all_of(browser, "#curves figure:first-child [aria-label=line] path, #curves figure:first-child svg > path"))
        >= 4
    )
    before = [path.get_attribute("d") for path in all_of(browser, "#curves path")]
    find(browser, "#curves input[value=pairs]").click()
    assert [path.get_attribute("d") for path in all_of(browser, "#curves path")] != before


def test_the_cells_of_a_heatmap_are_as_far_apart_as_the_values(browser: Chrome, study: Path) -> None:
    visit(browser, study / "report.html")
    ticks = {text.text: text.location["x"] + text.size["width"] / 2 for text in all_of(browser, "#heatmap svg text")}
    assert {"0.01", "0.05"} <= ticks.keys()
    widths = [cell.rect["width"] for cell in all_of(browser, "#heatmap [aria-label=rect] rect")]
    assert len(widths) == 4
    assert max(widths) - min(widths) < 2, "two values are even"


def test_runs_lie_over_each_other_with_what_differs(browser: Chrome, study: Path, run: Path, folder: Path) -> None:
    assert (
        main(["report", *(str(study / name) for name in "012"), str(run), "--output", str(folder / "four.html")]) == 0
    )
    visit(browser, folder / "four.html")
    assert find(browser, ".legend").text.split() == ["0", "1", "2", "run"]
    assert len(all_of(browser, "#curves figure")) >= 2
    assert "optim.lr" in find(browser, "#options").text
    assert "sampling.window" not in find(browser, "#options").text
    assert find(browser, "main > .note a").get_attribute("href").endswith("/study/0/report.html")
    resize(browser, 390, 740)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert complaints(browser) == []


def test_a_study_shows_another_figure_when_asked(browser: Chrome, study: Path) -> None:
    visit(browser, study / "report.html")
    cells = [text.text for text in all_of(browser, "#heatmap svg text")]
    assert {"−0.5", "0.75", "0.01", "0.05"} <= set(cells)
    menu = find(browser, "main > .controls select")
    menu.send_keys("loss")
    assert [text.text for text in all_of(browser, "#heatmap svg text")] != cells


def test_a_comparison_shows_its_variants_findings_and_runs(browser: Chrome, comparison: Path) -> None:
    visit(browser, comparison / "report.html")
    assert find(browser, ".legend").text.split() == ["ns", "nce"]
    assert "unigram model" in find(browser, "#findings").text
    assert len(all_of(browser, "#runs tbody tr")) == 4
    before = [path.get_attribute("d") for path in all_of(browser, "figure path")]
    find(browser, "input[value=seconds]").click()
    assert [path.get_attribute("d") for path in all_of(browser, "figure path")] != before
    assert complaints(browser) == []


def test_scores_say_what_they_are_of(page: Chrome, run: Path) -> None:
    text = page.find_element("tag name", "main").text
    found = json.loads((run / "summary.json").read_text())["evaluation"]
    assert "[object" not in text
    assert "Spearman, only 25 pairs" in text
    popularity = f"popularity {found['sequences']['popularity']:.3f}"
    assert f"hit rate at 10, only 20 sequences; {popularity}; 50" in text
    assert "\u202f% end in a repeat and are left out" in text
    assert f"word frequencies alone: {found['heldout']['unigram']:,.1f}" in text


def test_hostile_words_are_shown_as_they_are(browser: Chrome, folder: Path) -> None:
    words = ["<img/src=x/onerror=alert(1)>", "</script><script>alert(1)</script>", "<b>bold</b>"]
    (folder / "hostile.txt").write_text(" ".join(words * 300))
    run = folder / "<img src=x onerror=alert(1)>"
    options = ["data.normalise=none", "data.heldout=0", "noise.exclude=none"]
    arguments = train_arguments(folder / "hostile.txt", folder, run, *options)
    assert main([f"run_dir='{run}'" if argument.startswith("run_dir=") else argument for argument in arguments]) == 0
    visit(browser, run / "report.html")
    assert complaints(browser) == []
    assert find(browser, "h1").text == run.name
    assert not all_of(browser, "img, b")
    search(browser, "<")
    assert {item.text.split()[0] for item in all_of(browser, "#found li")} == set(words)
    find(browser, "#search").send_keys(Keys.ENTER)
    word, found = listed(browser)
    assert {word, *(near for near, _ in found)} == set(words)
    # And were something put into the page after all, it would not run.
    script = "Object.assign(document.createElement('script'), {text: 'window.ran = 1'})"
    browser.execute_script(f"document.body.append({script})")
    assert browser.execute_script("return window.ran") is None
    assert "Content Security Policy" in complaints(browser)[0]["message"]
