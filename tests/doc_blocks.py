"""README and the pages of docs/, and the blocks of code in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page that it begins on."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r"^```([\w-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(each[1], each[2], text.count("\n", 0, each.start(2)) + 1) for each in found]


def inline(page: Path) -> list[str]:
    """Gives the pieces of code within the text, as one line each."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(each.split()) for each in re.findall(r"`((?:[^`\n]|\n(?!\n))+)`", text)]


def short(code: str) -> str:
    """Cuts the trainings in an example down to some hundred steps, and changes nothing else."""
    code = re.sub(r",?\s*learning_starts=[\d_]+", "", code)
    few = "total_timesteps=600, learning_starts=100, eval_max_steps=30, tensorboard=False"
    code = re.sub(r"total_timesteps=[\d_]+", few, code)
    return re.sub(r"\.learn\([\d_]{5,}", ".learn(200", code)
