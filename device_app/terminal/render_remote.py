"""Remote reach, as `handfast-device` prints it."""

from typing import Final

from device_app.console.answers import SelfTestAnswer
from device_app.remote.views import RemotePathView, RemoteView, SelfTestStep
from peer.terminal import layout
from peer.terminal.durations import format_duration
from peer.terminal.reasons import broker_reason_in_words

_STATES: Final = {
    "off": "off: there is no broker in the settings ([remote] in device.toml)",
    "stopped": "stopped: the daemon is not running",
    "trouble": "does not work",
    "connecting": "connecting",
    "attached": "attached",
    "waiting": "not attached, trying again",
}
_STEP_COLUMNS: Final = 22  # of result and step
_UDP: Final = {
    True: "gets out",
    False: "no STUN server answers: relays over TLS are used",
    None: "not known yet",
}


def remote_lines(view: RemoteView) -> list[str]:
    """The answer of `remote`."""
    found = [f"state        {state_words(view)}"]
    if view["trouble"]:
        found.append(f"problem      {view['trouble']}")
    elif view["state"] == "waiting":
        found.append("advice       `handfast-device remote test` says what to do")
    if not view["brokers"]:
        return found
    for broker in view["brokers"]:
        since = format_duration(broker["since_seconds"])
        why = f": {broker_reason_in_words(broker['why'])}" if broker["why"] else ""
        found.append(f"broker       {broker['url']}: {broker['state']} for {since}{why}")
    found += [
        f"address      {view['public_address'] or 'not known'}",
        f"UDP          {_UDP[view['udp']]}",
        f"clients      {layout.counted(view['clients'], 'key')} can connect",
        f"paths        {len(view['paths'])}",
    ]
    found += [_path(path) for path in view["paths"]]
    if view["counters"]:
        counts = ", ".join(f"{name} {count}" for name, count in view["counters"].items())
        found.append(f"counters     {counts}")
    return found


def state_words(view: RemoteView) -> str:
    """The state in one line, for `status`."""
    words = _STATES.get(view["state"], view["state"])
    if view["state"] == "attached":
        return f"{words} to {view['broker']} for {format_duration(view['since_seconds'])}"
    if view["why"]:
        return f"{words}: {broker_reason_in_words(view['why'])}"
    return words


class StepLines:
    """The steps of `remote test` as they come, below the server that they are about."""

    def __init__(self) -> None:
        self._target: str | None = None

    def of(self, step: SelfTestStep) -> list[str]:
        """The lines of one step."""
        found = [] if step["target"] in {self._target, ""} else [step["target"]]
        self._target = step["target"]
        columns = " " * _STEP_COLUMNS
        first = f"  {step['result']:<8} {step['step']:<11}{step['detail']}"
        found += layout.folded(first, indent=columns)
        if step["advice"] and step["result"] != "ok":
            found += layout.folded(f"{columns}{step['advice']}", indent=columns)
        return found

    @staticmethod
    def summary(answer: SelfTestAnswer) -> str:
        """The last line."""
        count = sum(step["result"] == "failed" for step in answer["steps"])
        if not count:
            return "No step has failed."
        return (
            f"{layout.counted(count, 'step')} failed. Follow the advice below each, and try again."
        )


def _path(path: RemotePathView) -> str:
    user = path["user"] or "unpaired"
    if not path["live"]:
        return f"  {user}: no connection yet"
    age = format_duration(path["age_seconds"])
    return f"  {user} at {path['address']} ({path['path']}, for {age})"
