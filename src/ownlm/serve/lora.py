"""Adapters that come and go while a server runs: from one folder that its operator named, and from nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import OwnlmError
from ..model.adapters.peft import CONFIG, WEIGHTS
from .errors import ApiError
from .served import Served

# Adapters that a listing of the folder shows, and folders that it looks into for them.
MOST_LISTED = 1000
_MOST_SEEN = 10_000


class AdapterFolder:
    """The folder whose adapters may be loaded, and the loading.

    Args:
        folder: the operator's.
        served: the model that they are for.
    """

    def __init__(self, folder: Path, served: Served) -> None:
        self._folder, self._served = folder.resolve(), served
        # One at a time: two with one name would each find the other not there.
        self._turn = asyncio.Lock()
        self._loaded = 0

    def available(self) -> list[str]:
        """The paths of all adapters in it; looks through the folder."""
        found: list[str] = []
        for count, config in enumerate(self._configs()):
            if count >= _MOST_SEEN or len(found) >= MOST_LISTED:
                break
            weights = config.parent / WEIGHTS
            if weights.is_file() and self._is_inside(weights) and self._is_inside(config):
                found.append(config.parent.relative_to(self._folder).as_posix())
        return sorted(found)

    async def load(self, name: str, path: str, *, replace: bool) -> Served:
        """Reads an adapter and makes it answer to a name; what answers under way began with goes on with them.

        Args:
            name: what clients call it.
            path: within the folder.
            replace: whether another of this name gives way; otherwise it is an error.

        Raises:
            ApiError: 400; the path leads out of the folder, there is no adapter at it or one for another model, or the
                name is taken. 404; there is nothing at the path.
        """
        folder = self._find(path)
        served = self._served
        async with self._turn:
            if name == served.name:
                raise ApiError(400, f"the model itself is called '{name}'", param="lora_name", code="name_taken")
            if name in served.adapted and not replace:
                message = f"there is an adapter '{name}' already; load_inplace replaces it"
                raise ApiError(400, message, param="lora_name", code="name_taken")
            self._loaded += 1
            try:
                # No two of the engine's have one name, so that a request finds the one it was let in for, or none.
                return await served.adapt(name, f"{name}\0{self._loaded}", folder, path)
            except OwnlmError as error:
                if error.exit_code != 2:
                    raise
                # Where on this machine that is, is nobody's business.
                raise ApiError(400, error.message, param="lora_path", code="invalid_adapter") from None

    async def unload(self, name: str) -> None:
        """Takes an adapter away; answers under way go on with it.

        Raises:
            ApiError: 404; there is none of this name. 400; it is the model itself.
        """
        async with self._turn:
            if name == self._served.name:
                raise ApiError(400, f"'{name}' is the model itself, and stays", param="lora_name", code="invalid_value")
            if name not in self._served.adapted:
                message = f"there is no adapter '{name[:200]}' here"
                raise ApiError(404, message, param="lora_name", code="model_not_found")
            await self._served.unadapt(name)

    def _configs(self) -> Iterator[Path]:
        # Links to folders are not followed.
        return self._folder.rglob(CONFIG)

    def _find(self, path: str) -> Path:
        """The folder at a path that a client named."""
        outside = ApiError(
            400,
            "an adapter's path is relative, and leads nowhere out of the folder that this server loads them from",
            param="lora_path",
            code="invalid_path",
        )
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or not path.isprintable():
            raise outside
        try:
            folder = (self._folder / pure).resolve()
            if not folder.is_relative_to(self._folder):
                raise outside
            if not folder.is_dir():
                message = "there is no such adapter in the folder that this server loads them from"
                raise ApiError(404, message, param="lora_path", code="adapter_not_found")
            # A link in the folder may lead out of it, and what it leads to need not be an adapter.
            if not all(self._is_inside(folder / file) for file in (CONFIG, WEIGHTS)):
                raise outside
        except (OSError, RuntimeError, ValueError):
            # Too long a name, or links that lead in a circle.
            raise outside from None
        return folder

    def _is_inside(self, file: Path) -> bool:
        return file.resolve().is_relative_to(self._folder)
