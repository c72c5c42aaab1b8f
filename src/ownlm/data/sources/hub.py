"""Data sets of the hub: their files, brought into a folder to be read like any others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ...errors import DataError, FetchError
from ...files import storage_errors
from .layout import CARD, choose_files
from .options import SourceOptions

# How long the hub may take for each answer before it counts as out of reach.
SECONDS = 10.0


def fetch_dataset(source: SourceOptions, folder: Path) -> None:
    """Downloads the files of a data set's subset and split into an empty folder.

    Honours ``OWNLM_OFFLINE``, ``HF_HUB_OFFLINE``, ``HF_ENDPOINT``, the hub's own token, and the usual proxy variables.

    Raises:
        FetchError: networks are switched off, the hub cannot be reached, or it has no such data set for this user.
        DataError: the data set has no such subset or split.
    """
    assert source.dataset is not None
    for variable in ("OWNLM_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            raise FetchError(
                f"this data set has to be fetched, and {variable} forbids it",
                where=source.dataset,
                hint=f"unset {variable}, or download its files and name their folder as 'path'",
            )
    # Asked for before the library reads it, on its first import: a hub need not know what runs where.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        info = api.dataset_info(source.dataset, revision=source.revision, timeout=SECONDS)
        names = [file.rfilename for file in info.siblings or ()]
        card = _download(api, source, info.sha, CARD, folder) if CARD in names else None
        chosen = choose_files({name: str(card) if name == CARD else "" for name in names}, source)
        for name in sorted(chosen):
            _download(api, source, info.sha, name, folder)
    except DataError:
        raise
    except OSError as error:
        # A full disk is not the hub's fault.
        if error.errno is not None and error.filename is not None:
            with storage_errors(folder):
                raise
        raise _hub_error(error, source.dataset) from None
    except Exception as error:  # the library's own network errors share no base
        raise _hub_error(error, source.dataset) from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    if card is not None:
        Path(card).unlink()  # it describes the data and is none of it


def _download(api: Any, source: SourceOptions, commit: str | None, name: str, folder: Path) -> str:
    path: str = api.hf_hub_download(source.dataset, name, repo_type="dataset", revision=commit, local_dir=folder)
    return path


def _hub_error(error: Exception, dataset: str) -> FetchError:
    """What the hub's library raised, as one sentence."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        hint = "accept its terms on the hub, then log in with 'hf auth login'"
        return FetchError("this data set needs its terms accepted first", where=dataset, hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return FetchError("the hub has no such revision of this data set", where=dataset)
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = "check org/name; for a private data set log in with 'hf auth login'"
        return FetchError("the hub has no such data set", where=dataset, hint=hint)
    if isinstance(error, errors.HFValidationError):
        return FetchError("this is no name that the hub could have", where=dataset, hint="write org/name")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return FetchError(f"the hub cannot be reached: {reason}", where=dataset, hint="check the network")
