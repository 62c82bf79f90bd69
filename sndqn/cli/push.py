"""`sndqn push`: an agent as a repository on the Hugging Face hub."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sndqn.cli.options import (
    AGENT,
    Parser,
    add_evaluation,
    add_pin,
    add_told,
    make_console,
    parse,
    told,
)
from sndqn.console import say
from sndqn.errors import HubError


def run(argv: Sequence[str]) -> None:
    """Puts an agent on the hub, with its evaluation, a card, a clip and its study."""
    parser = Parser(
        "push",
        "Put an agent on the Hugging Face hub: its file and settings, its evaluation with every "
        "game, a card, a clip, and the study that it comes from.",
    )
    parser.add_argument("agent", help=AGENT)
    parser.add_argument("name", metavar="USER/NAME", help="repository; made if there is none")
    parser.add_argument("--private", action="store_true", help="show the repository to nobody else")
    add_evaluation(parser)
    add_pin(parser)
    add_told(parser)
    arguments = parse(parser, argv)

    from sndqn.agents.hub import upload
    from sndqn.agents.hub_client import check_token
    from sndqn.agents.hub_names import hub_name

    name = hub_name(arguments.name)
    if name.revision != "main":
        raise HubError(f"{name}: expected USER/NAME alone: leave the revision out")
    check_token()
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()

    from sndqn.agents import find_agent
    from sndqn.study.publishing import FILES, pack

    console = make_console()
    place = find_agent(arguments.agent, told(arguments))
    with tempfile.TemporaryDirectory(prefix="sndqn-push-") as temporary:
        folder = Path(temporary)
        parcel = pack(place, name, folder, console, arguments.evaluation, arguments.sha256)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            say(console, f"{path.relative_to(folder)}: {path.stat().st_size:,} bytes")
        pushed = upload(name, folder, private=arguments.private, ours=FILES)
    say(console, f"sha256 {parcel.agent.sha256}")
    seen_by = "private" if pushed.private else "public"
    say(console, f"{pushed.page}: {seen_by}, commit {pushed.commit}")
    say(console, f"Next: sndqn pull {name.repo}", style="bold")
