"""WikiText-2 (Merity et al. 2016): from a folder, or from the hub into that folder."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, FetchError, MissingExtra
from ..files import write_text

REPOSITORY = "Salesforce/wikitext"
SUBSET = "wikitext-2-raw-v1"


def wikitext2(folder: str | Path) -> tuple[Path, Path]:
    """The training and the validation file of the corpus in a folder.

    The names are the corpus's own (``wiki.train.tokens``, ``wiki.valid.tokens``, ``wiki.test.tokens``, or ``.raw`` in
    place of ``.tokens``). A copy without the training file, as some mirrors hold, is used with the validation file to
    train on and the test file to validate on. Where the folder does not exist, the corpus is fetched into it.

    Raises:
        DataError: the folder holds neither pair.
        FetchError: the hub cannot be reached.
        MissingExtra: fetching needs the extra 'data', which reads Parquet.
    """
    folder = Path(folder)
    if not folder.exists():
        fetch_wikitext2(folder)
    for first, second in (("train", "valid"), ("valid", "test")):
        for ending in ("tokens", "raw"):
            pair = folder / f"wiki.{first}.{ending}", folder / f"wiki.{second}.{ending}"
            if all(path.is_file() for path in pair):
                return pair
    hint = "it needs wiki.train.tokens and wiki.valid.tokens, or the valid and test files"
    raise DataError("this folder holds no WikiText-2", where=str(folder), hint=hint)


def fetch_wikitext2(folder: Path) -> None:
    """Fetches the corpus from the hub and writes it as text files."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtra("fetching WikiText-2", "data") from None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        try:
            file = hf_hub_download(REPOSITORY, f"{SUBSET}/{split}-00000-of-00001.parquet", repo_type="dataset")
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            hint = "pass --data with a folder that holds it"
            raise FetchError("WikiText-2 cannot be fetched from the hub", where=REPOSITORY, hint=hint) from error
        parquet_to_text(Path(file), folder / f"wiki.{name}.raw")


def parquet_to_text(parquet: Path, text: Path) -> None:
    """Writes the rows of a Parquet file's ``text`` column one after another; they hold their own line ends."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(parquet, columns=["text"])["text"].to_pylist()
    write_text(text, "".join(rows))
