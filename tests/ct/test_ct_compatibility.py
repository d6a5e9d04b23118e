"""The table of docs/extract.md is what the command produces, and says that the values are equal."""

from pathlib import Path

from compatibility import markdown

PAGE = Path(__file__).parents[2] / "docs" / "extract.md"


def test_the_table_of_compatibility():
    text = PAGE.read_text().partition("<!-- compatibility -->\n")[2].partition("<!-- end -->")[0]
    assert text == markdown()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert len(rows) >= 60
    read = [row for row in rows if row[1].startswith("read")]
    assert len(read) > 60
    assert all(row[2] and float(row[3]) == 0 and float(row[4]) <= 1e-3 for row in read)
