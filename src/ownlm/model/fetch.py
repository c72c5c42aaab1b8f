"""Bringing a model's files to this machine: from the hub, or from a package index where the hub is out of reach."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import queue
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FetchError, ModelError
from ..files import CHECKSUMS, sha256_file
from .checkpoint import read_config

Say = Callable[[str], None]

# The sizes of a cached model's files, which tell at a glance whether it is whole.
SIZES = "sizes.json"

# How long the hub may take to answer before it counts as out of reach, looking up its name included. With the time
# that its library takes to load, the user waits less than five seconds.
HUB_SECONDS = 4.0
# A download that takes longer than this is not going to end.
PACKAGE_SECONDS = 3600.0

# Never a pickle; nor the same weights again in a subfolder or another layout.
_WANTED = ("*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.txt")
# What this cache writes itself is not taken either.
_UNWANTED = ("*/*", "consolidated*", CHECKSUMS, SIZES)


@dataclass(frozen=True)
class HubModel:
    """A model as the hub describes it.

    Attributes:
        repository: ``ORG/NAME``.
        revision: the commit it stands at.
        files: the names of those we take, with the SHA-256 of each that the hub tells.
        endpoint: the hub asked, where it is not the usual one.
    """

    repository: str
    revision: str
    files: dict[str, str | None]
    endpoint: str | None


@dataclass(frozen=True)
class Package:
    """A package of a package index that carries a model.

    Attributes:
        name, version: of the package.
        member: the model's path in its wheel.
        sha256: the checksum of that file.
        size: its bytes.
    """

    name: str
    version: str
    member: str
    sha256: str
    size: int


class HubUnreachable(FetchError):
    """The hub did not answer, or not as a hub does."""


def refuse_offline(what: str) -> None:
    """Stops before any network call where the user has switched them off.

    Raises:
        FetchError: ``OWNLM_OFFLINE`` is set.
    """
    if _is_set("OWNLM_OFFLINE"):
        raise FetchError(
            "this model is not in the cache, or not whole, and OWNLM_OFFLINE forbids fetching it",
            where=what,
            hint="unset OWNLM_OFFLINE, or name a folder or a .gguf file",
        )


def ask_hub(repository: str, revision: str | None, *, seconds: float = HUB_SECONDS) -> HubModel:
    """Asks the hub for a model, and gives up after ``seconds`` of wall-clock time whatever happens.

    Honours ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, the hub's own token, and the usual proxy variables.

    Raises:
        HubUnreachable: no answer in time, a refused or broken connection, or a proxy's answer in the hub's place.
        FetchError: the hub answers, and has no such model or does not let this user have it.
    """
    if _is_set("HF_HUB_OFFLINE"):
        raise HubUnreachable("the hub is switched off by HF_HUB_OFFLINE", where=repository)
    # Asked for before the library reads it, on its first import: a model hub need not know what runs where.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT")
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            api = HfApi(endpoint=endpoint)
            answers.put(api.model_info(repository, revision=revision, timeout=seconds, files_metadata=True))
        except BaseException as error:
            answers.put(error)

    # In a thread, since looking up a host's name takes as long as it likes; a daemon, so that it holds up no exit.
    threading.Thread(target=ask, name="ask-hub", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise HubUnreachable(f"the hub gave no answer within {seconds:g} seconds", where=repository) from None
    if isinstance(answer, BaseException):
        raise _hub_error(answer, repository) from None
    files = {}
    for file in answer.siblings or ():
        if _is_wanted(file.rfilename):
            files[file.rfilename] = file.lfs.sha256 if file.lfs else None
    return HubModel(repository, answer.sha or revision or "main", files, endpoint)


def download_from_hub(model: HubModel, folder: Path, say: Say) -> None:
    """Downloads a model's files into a folder; what an interrupted download left there is taken up again.

    Raises:
        FetchError: the connection broke, or a file is not what the hub says it is.
        ModelError: the model is of an architecture we do not have, or has no safetensors; nothing large was fetched.
    """
    if not any(name.endswith(".safetensors") for name in model.files):
        raise ModelError(
            "this model's weights are not offered as safetensors",
            where=model.repository,
            hint="another revision may have them; pickles are not opened, since they can run code",
        )
    _snapshot(model, folder, ["config.json"])
    read_config(folder)
    say(f"Downloading {model.repository} from the hub ({len(model.files)} files)")
    _snapshot(model, folder, list(_WANTED))
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for name, digest in model.files.items():
        path = folder / name
        if not path.is_file():
            raise FetchError(f"the hub did not send {name}", where=model.repository, hint="run the same command again")
        if digest is not None and sha256_file(path) != digest:
            path.unlink()
            raise FetchError(
                f"{name} arrived damaged: its checksum is not the hub's",
                where=model.repository,
                hint="run the same command again",
            )


def _snapshot(model: HubModel, folder: Path, wanted: list[str]) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        snapshot_download(
            model.repository,
            revision=model.revision,
            local_dir=folder,
            allow_patterns=wanted,
            ignore_patterns=list(_UNWANTED),
            endpoint=model.endpoint,
        )
    except OSError as error:
        # A full disk is not the hub's fault.
        if error.errno is not None and error.filename is not None:
            raise
        raise _hub_error(error, model.repository) from None
    except Exception as error:  # the library's own network errors share no base
        raise _hub_error(error, model.repository) from None


def download_from_package(package: Package, folder: Path, say: Say, *, seconds: float = PACKAGE_SECONDS) -> Path:
    """Takes a model's file out of a package, through pip and so with the user's own settings of index and proxy.

    Nothing is installed and none of the package's code runs: the wheel is opened as the archive that it is.

    Args:
        package: which.
        folder: where the file goes; pip's own work is done there too.
        say: gets what is being done.
        seconds: the longest that pip may take.

    Raises:
        FetchError: pip is missing or fails, or the file is not the one that was pinned.
    """
    wanted = f"{package.name}=={package.version}"
    if importlib.util.find_spec("pip") is None:
        hint = f"run 'python -m ensurepip', or download {wanted} by hand, unzip it and name its .gguf file"
        raise FetchError("pip is not installed for this Python", where=wanted, hint=hint)
    say(f"Downloading {wanted} from the package index ({package.size / 1e6:.0f} MB)")
    work = folder / "pip"
    work.mkdir()
    # A wheel only: building a package from its source would run its code.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(work), wanted]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)),
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"the package index sent no whole file in {seconds:g} seconds", where=wanted) from None
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        raise FetchError(
            f"it could not be downloaded: {_last_line(done.stderr)}",
            where=wanted,
            hint="check the network and pip's settings ('pip config list')",
        )
    path = _unpack(wheels[0], package, folder)
    shutil.rmtree(work)
    return path


def _unpack(wheel: Path, package: Package, folder: Path) -> Path:
    """Takes the one pinned file out of a wheel, whatever else it holds."""
    where = f"{package.name}=={package.version}"
    path = folder / Path(package.member).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            # The size is checked first, so that an archive made to burst cannot fill the disk.
            if archive.getinfo(package.member).file_size != package.size:
                raise FetchError(f"{path.name} has not the size that was pinned", where=where)
            with archive.open(package.member) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"the package does not hold what it should: {error}", where=where) from None
    if sha256_file(path) != package.sha256:
        raise FetchError(
            f"{path.name} is not the file that was pinned: its checksum differs",
            where=where,
            hint="run the same command again; if it stays so, do not trust this package index",
        )
    return path


def unpack_model(archive: Path, folder: Path) -> None:
    """Takes a model's files out of a zip archive; what is no model's file stays in it.

    Raises:
        FetchError: it is no such archive.
        ModelError: the model is of an architecture we do not have.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in filter(_is_wanted, opened.namelist()):
                with opened.open(name) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except zipfile.BadZipFile as error:
        raise FetchError(f"this is not the archive of a model: {error}", where=archive.name) from None
    read_config(folder)


def _hub_error(error: BaseException, repository: str) -> FetchError:
    """What the hub's library raised, as one sentence; whether the hub answered at all decides the kind."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        hint = "accept its terms on the hub, then log in with 'hf auth login'"
        return FetchError("this model needs its terms accepted first", where=repository, hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return FetchError("the hub has no such revision of this model", where=repository, hint="check the name after @")
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = "check ORG/NAME; for a private model log in with 'hf auth login'"
        return FetchError("the hub has no such model", where=repository, hint=hint)
    if isinstance(error, errors.HFValidationError):
        return FetchError("this is no name that the hub could have", where=repository, hint="write hf:ORG/NAME")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HubUnreachable(f"the hub cannot be reached: {reason}", where=repository, hint="check the network")


def _is_wanted(name: str) -> bool:
    wanted = any(fnmatch.fnmatch(name, pattern) for pattern in _WANTED)
    return wanted and not any(fnmatch.fnmatch(name, pattern) for pattern in _UNWANTED)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def _last_line(text: str) -> str:
    """Pip's last word: its last error, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip said nothing"])[-1]
