"""Publication of a vectors folder, with its model card, as a model repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from skiplight.errors import ConfigError, SkiplightError


def push_to_hub(folder: Path, repository: str) -> str:
    """Upload a `vectors/` folder to a model repository, and return its address; a new repository is private.

    Args:
        folder: holds vectors.safetensors, vocabulary.tsv and the model card README.md.
        repository: owner/name.

    Raises:
        ConfigError: nobody is logged in, or the name is invalid.
        SkiplightError: the Hub refused or could not be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError

    if get_token() is None:
        raise ConfigError(f"--push-to-hub {repository}: nobody is logged in; run `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload skip-gram vectors")
    except HFValidationError as error:
        raise ConfigError(f"--push-to-hub {repository}: {error}") from None
    except Exception as error:  # the client, its HTTP library and the file system raise what they like
        raise SkiplightError(f"--push-to-hub {repository}: the Hub did not take it: {error}") from error
    return str(address)
