"""`sndqn pull`: an agent of the Hugging Face hub, into the hub's cache or a folder."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sndqn.cli.options import Parser, add_pin, make_console, new_file, parse
from sndqn.console import say
from sndqn.errors import RunFolderError
from sndqn.files.atomic import TEMPORARY


def run(argv: Sequence[str]) -> None:
    """Fetches an agent, reads it, and says what it is."""
    parser = Parser(
        "pull",
        "Fetch an agent of the Hugging Face hub: its safetensors, JSON and YAML, and nothing else.",
    )
    parser.add_argument("name", metavar="USER/NAME[@REVISION]", help="a branch, a tag or a commit")
    parser.add_argument(
        "--output", metavar="FOLDER", help="a new folder (else the hub's cache alone)"
    )
    add_pin(parser)
    arguments = parse(parser, argv)

    from sndqn.agents.hub_names import hub_name

    name = hub_name(arguments.name)
    output = None if arguments.output is None else new_file(arguments.output)

    from sndqn.agents import find_agent, read_evaluation

    place = find_agent(str(name))
    agent = place.load(arguments.sha256)
    record, about, console = read_evaluation(place.folder), agent.description, make_console()
    say(console, about.settings.describe())
    say(console, f"{about.name}, {about.timesteps:,} steps, seed {about.seed}")
    say(console, f"commit {place.folder.path.name}, sha256 {agent.sha256}")
    if record is not None:
        whose = "" if record.agent_sha256 == agent.sha256 else ", of another agent than this one"
        say(
            console,
            f"mean return {record.mean:.1f} ± {record.std:.1f} over {len(record.episodes)} "
            f"episodes{whose}",
        )
    if output is not None:
        _copy(place.folder.path, output)
    what = "evaluate" if record is None else "replay"
    say(console, f"Next: sndqn {what} {output or name}", style="bold")


def _copy(folder: Path, output: Path) -> None:
    """Copies the fetched files into a new folder, wholly or not at all."""
    from sndqn.agents.hub import FETCHED

    temporary = output.with_name(f"{TEMPORARY}{os.getpid()}-{output.name}")
    try:
        temporary.mkdir(parents=True)
        for file in FETCHED:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, temporary / file)
        temporary.rename(output)
    except OSError as error:
        raise RunFolderError(f"--output: cannot write {output}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
