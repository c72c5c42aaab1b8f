"""How text is taken out of content: the recipe's ``extract`` section."""

from __future__ import annotations

from typing import Literal

from ...config import Config


class ExtractOptions(Config):
    """How text is taken out of pages and documents, and repaired."""

    html: Literal["main", "all"] = "main"
    """`main` keeps a page's article and leaves out menus, teasers and the like; `all` keeps all that is visible."""
    tables: bool = True
    """Whether the cells of tables are part of a page's main text."""
    comments: bool = False
    """Whether readers' comments below a page's article are kept."""
    repair: bool = True
    """Whether text is repaired: mojibake, control and invisible characters, exotic spaces, line ends."""
    normalize: Literal["NFC", "NFKC", "none"] = "NFC"
    """The Unicode normal form. NFKC also turns ligatures, full-width letters and the like into plain ones."""
