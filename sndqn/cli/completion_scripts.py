"""The scripts that `sndqn completion` prints, one function a shell."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sndqn.cli.completion import Command

Words = Mapping[str, Sequence[str]]
_KINDS = ("env", "config", "shipped", "agent", "run", "file", "folder")


def script(shell: str, commands: Sequence["Command"], words: Words) -> str:
    """Returns the script of a shell.

    Args:
        shell: "bash", "zsh" or "fish".
        commands: What is completed.
        words: Of the kinds "env", "config" and "shipped".
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands, words)


def _bash(commands: Sequence["Command"], words: Words) -> str:
    cases = []
    for command in commands:
        for option in command.options:
            if option.values is not None:
                typed = "|".join(f'"{command.name} {name}"' for name in option.names)
                cases.append(f"        {typed}) kind={_quoted(option.values)} ;;")
    options = [
        f"        {command.name}) options={_quoted(' '.join(_names(command)))}; "
        f"place={_quoted(command.words)} ;;"
        for command in commands
    ]
    return f"""\
# Completion of sndqn for bash. Made by `sndqn completion bash`.
_sndqn_of_kind() {{
    local cur=$2 found folder
    case $1 in
        env) found={_quoted(" ".join(words["env"]))} ;;
        config) found={_quoted(" ".join(words["config"]))} ;;
        shipped) found={_quoted(" ".join(words["shipped"]))} ;;
        agent|run)
            [[ $1 == agent ]] && found={_quoted(" ".join(words["shipped"]))}
            for folder in "${{SNDQN_RUNS_DIR:-runs}}"/*/*/; do
                [[ -f ${{folder}}config.yaml || -f ${{folder}}tasks.yaml ]] || continue
                found+=" ${{folder%/}}"
            done ;;
        file|folder|none) ;;
        *) found=$1 ;;
    esac
    COMPREPLY=($(compgen -W "$found" -- "$cur"))
    case $1 in
        config|file) COMPREPLY+=($(compgen -f -- "$cur")) ;;
        agent|run) (( ${{#COMPREPLY[@]}} )) || COMPREPLY=($(compgen -f -- "$cur")) ;;
        folder) COMPREPLY+=($(compgen -d -- "$cur")) ;;
    esac
    [[ $1 == file || $1 == folder || $1 == agent || $1 == run ]] &&
        compopt -o filenames 2> /dev/null
    return 0
}}
_sndqn() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} kind= options= place=
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W {_quoted(" ".join(c.name for c in commands))} -- "$cur"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{_lines(options)}
    esac
    kind=-
    case "${{COMP_WORDS[1]}} $prev" in
{_lines(cases)}
    esac
    if [[ $kind != - ]]; then
        _sndqn_of_kind "${{kind:-none}}" "$cur"
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
    else
        _sndqn_of_kind "${{place:-none}}" "$cur"
    fi
}}
complete -F _sndqn sndqn
"""


def _zsh(commands: Sequence["Command"], words: Words) -> str:
    described = [f"        {_quoted(f'{c.name}:{c.help}')}" for c in commands]
    cases = []
    for command in commands:
        specs = [
            _quoted(
                f"*{name}{'' if option.values is None else '='}[{_zsh_text(option.help)}]"
                + ("" if option.values is None else f":value:{_zsh_values(option.values)}")
            )
            for option in command.options
            for name in option.names
        ]
        specs.append(_quoted(f"*:word:{_zsh_values(command.words)}"))
        cases.append(f"        {command.name}) _arguments {' '.join(specs)} ;;")
    return f"""\
#compdef sndqn
# Completion of sndqn for zsh. Made by `sndqn completion zsh`.
_sndqn_env() {{ compadd -- {" ".join(words["env"])} }}
_sndqn_config() {{ compadd -- {" ".join(words["config"])}; _files }}
_sndqn_shipped() {{ compadd -- {" ".join(words["shipped"])} }}
_sndqn_run() {{
    local -a found
    found=("${{SNDQN_RUNS_DIR:-runs}}"/*/*/(config|tasks).yaml(N:h))
    (( $#found )) && compadd -- $found
    _files -/
}}
_sndqn_agent() {{ _sndqn_shipped; _sndqn_run; _files }}
_sndqn_file() {{ _files }}
_sndqn_folder() {{ _files -/ }}
_sndqn() {{
    local -a commands
    commands=(
{_lines(described)}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
{_lines(cases)}
    esac
}}
if [[ $funcstack[1] == _sndqn ]]; then
    _sndqn "$@"
else
    compdef _sndqn sndqn
fi
"""


def _fish(commands: Sequence["Command"], words: Words) -> str:
    lines = [
        f"complete -c sndqn -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}"
        for command in commands
    ]
    for command in commands:
        when = f"complete -c sndqn -n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            lines.append(f"{when} -a {_fish_values(command.words)}")
        for option in command.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            value = "" if option.values is None else f" -x -a {_fish_values(option.values)}"
            lines.append(f"{when} {names}{value} -d {_quoted(option.help)}")
    return f"""\
# Completion of sndqn for fish. Made by `sndqn completion fish`.
function __sndqn_env; printf '%s\\n' {" ".join(words["env"])}; end
function __sndqn_shipped; printf '%s\\n' {" ".join(words["shipped"])}; end
function __sndqn_config
    printf '%s\\n' {" ".join(words["config"])}
    __fish_complete_path (commandline -ct)
end
function __sndqn_run
    set -q SNDQN_RUNS_DIR; and set -l root $SNDQN_RUNS_DIR; or set -l root runs
    for file in $root/*/*/config.yaml $root/*/*/tasks.yaml
        string replace -r '/[a-z]+\\.yaml$' '' -- $file
    end
    __fish_complete_directories (commandline -ct)
end
function __sndqn_agent; __sndqn_shipped; __sndqn_run; __fish_complete_path (commandline -ct); end
function __sndqn_file; __fish_complete_path (commandline -ct); end
function __sndqn_folder; __fish_complete_directories (commandline -ct); end
complete -c sndqn -f
{_lines(lines)}
"""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _names(command: "Command") -> list[str]:
    return [name for option in command.options for name in option.names]


def _quoted(text: str) -> str:
    """Writes a text in single quotes, as each of the shells reads them."""
    return "'" + re.sub(r"['\\]", "", text) + "'"


def _zsh_text(text: str) -> str:
    return re.sub(r"[\[\]:]", " ", text)


def _zsh_values(values: str) -> str:
    if not values:
        return " "
    return f"_sndqn_{values}" if values in _KINDS else f"({values})"


def _fish_values(values: str) -> str:
    return f"'(__sndqn_{values})'" if values in _KINDS else _quoted(values)
