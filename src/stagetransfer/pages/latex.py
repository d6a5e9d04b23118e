"""Tables for LaTeX: rules of booktabs, numbers aligned by siunitx, notes by threeparttable."""

import re

from stagetransfer.pages.blocks import Table

TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "–": "--", "²": "$^2$", "†": r"$\dagger$", "…": r"\dots{}",
    "→": r"$\to$", "×": r"$\times$",
}  # fmt: skip
NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?")


def grid(table: Table) -> tuple[str, list[str], list[list[str]]]:
    """Return the columns, heads and rows of a tabular, each number with its interval beside it."""
    columns, heads, cells = "", list[str](), list[list[str]]()
    for i, head in enumerate(table.columns):
        split = [row[i].partition("\n") for row in table.rows]
        numbers = [found for first, _, _ in split if (found := NUMBER.fullmatch(first))]
        if i < table.left or not numbers:
            columns += "l" if i < table.left else "r"
            heads.append(tex(head))
            cells.append([tex(row[i]) for row in table.rows])
            continue
        whole, part = (max(len(found[k] or "") for found in numbers) for k in (2, 3))
        sign = "+" * any(found[1] for found in numbers)
        places = f"{sign}{whole}.{part}".removesuffix(".0")
        columns += f"S[table-format={places},retain-explicit-plus]"
        aligned = [x if NUMBER.fullmatch(x) else f"{{{tex(x)}}}" for x, _, _ in split]
        if any(rest for *_, rest in split):
            columns += r"@{\ }>{\scriptsize}l"
            head = rf"\multicolumn{{2}}{{c}}{{{tex(head)}}}"
            aligned = [f"{x} & {tex(rest)}" for x, (*_, rest) in zip(aligned, split, strict=True)]
        else:
            head = f"{{{tex(head)}}}"
        heads.append(head)
        cells.append(aligned)
    return columns, heads, [list(row) for row in zip(*cells, strict=True)]


def tex(text: str) -> str:
    """Return a text for LaTeX in one line, with a true minus before digits.

    A bracket at its start is preceded by braces. Otherwise LaTeX would read it as an argument of
    the end of the row before.
    """
    safe = "".join(TEX.get(c, c) for c in text.replace("\n", " "))
    return re.sub(r"^\[", "{}[", re.sub(r"(?<![\w.])-(?=\d)", "$-$", safe))
