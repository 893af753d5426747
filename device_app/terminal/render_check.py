"""The answer of `check`, as `handfast-device` prints it."""

from device_app.console.start_check import StartCheckAnswer
from peer.terminal.text import on_lines


def check_lines(answer: StartCheckAnswer) -> list[str]:
    """Return what a start would use, what is doubtful, and what would stop it."""
    modules = [f"{one['name']} ({', '.join(one['paths'])})" for one in answer["modules"]]
    found = [
        f"settings     {', '.join(answer['settings']) or 'none, so all are at their defaults'}",
        f"modules      {', '.join(modules) or 'none'}",
        f"policies     {', '.join(answer['policies']) or 'the built-in ones'}",
    ]
    found += [f"warning      {on_lines(text)}" for text in answer["warnings"]]
    for problem in answer["problems"]:
        found.append(f"problem      {on_lines(problem['text'])}")
        if "advice" in problem:
            found.append(f"             {on_lines(problem['advice'])}")
    count = len(answer["problems"])
    if count:
        return [*found, f"The device would not start: {count} problem{'s' * (count > 1)}."]
    return [*found, "The device would start."]
