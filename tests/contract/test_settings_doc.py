"""docs/settings.md says what the settings say."""

from pathlib import Path

from farpoint.settings import settings_table
from farpoint.settings_doc import settings_markdown

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_not_stale() -> None:
    """The committed page is what `farpoint settings --markdown` prints now."""
    assert PAGE.read_text(encoding="utf-8") == settings_markdown()


def test_every_setting_is_on_the_page() -> None:
    """Each setting has its row."""
    page = settings_markdown()
    assert all(f"| `{variable}` |" in page for variable, _, _ in settings_table())
