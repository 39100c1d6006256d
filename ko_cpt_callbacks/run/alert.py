"""Findings sent to people: by the alerts of a tracker that is on, and through Apprise to chats, mail and webhooks.

Every code is sent once a run, from threads of their own: a training waits for no one. An address is a secret. It is in
no row, file, page or log of this package, and a destination is named by its kind alone (``slack``).
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.finding import SEVERITIES, Finding, Severity
from ko_cpt_callbacks.run.output import Output

__all__ = ["ALERTS_VARIABLE", "Alert", "AlertOutput", "Channel", "alert_output"]

_log = logging.getLogger("ko_cpt_callbacks")

ALERTS_VARIABLE: Final = "KO_CPT_ALERTS"
"""Environment variable with what ``alerts`` may have, with blanks between, where no argument says anything."""

INTERVAL_SECONDS: Final = 10.0
"""Least seconds between two messages to people. Chosen, not measured."""
PATIENCE_SECONDS: Final = 8.0
"""How long a process that ends waits for all destinations together: twice what Apprise waits for an answer."""

_KIND: Final = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.IGNORECASE)
_APPRISE_TYPES: Final = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.ERROR: "failure"}
_TRACKER_LEVELS: Final = {Severity.INFO: "INFO", Severity.WARNING: "WARN", Severity.ERROR: "ERROR"}


@dataclass(frozen=True, slots=True)
class Alert:
    """A message.

    Args:
        title: The finding's code and where.
        text: What happened and what to do.
        severity: How grave it is.
    """

    title: str
    text: str
    severity: Severity


Channel: TypeAlias = Callable[[Alert], bool]
"""Sends an alert; says whether it arrived. May raise, and may take its time."""


class _Sender:
    """One destination with its thread, which begins with the first alert.

    Args:
        kind: What the destination is called in a log.
        channel: The destination.
        interval: Least seconds between two alerts.
    """

    def __init__(self, kind: str, channel: Channel, interval: float) -> None:
        self._kind, self._channel, self._interval = kind, channel, interval
        self._queue: SimpleQueue[tuple[contextvars.Context, Alert] | None] = SimpleQueue()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = False

    def send(self, alert: Alert) -> None:
        """Send it some time soon; a tracker finds its run in the context of the caller."""
        if self._thread is None:
            # A daemon: a destination that hangs does not keep the process.
            self._thread = threading.Thread(target=self._work, name=f"ko-cpt alerts ({self._kind})", daemon=True)
            self._thread.start()
        self._queue.put((contextvars.copy_context(), alert))

    def hurry(self) -> None:
        """Wait between alerts no more: the run is over."""
        self._hurry.set()

    def close(self) -> None:
        """Send what is left without waiting between, and end the thread after it."""
        self._hurry.set()
        self._queue.put(None)

    def join(self, seconds: float) -> None:
        """Wait until all is sent, no longer than so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            context, alert = item
            try:
                arrived = bool(context.run(self._channel, alert))
                why = "it was not accepted"
            except Exception as error:  # its text may have the address
                arrived, why = False, type(error).__name__
            if not arrived and not self._said:
                self._said = True
                _log.warning("Alerts to %s do not arrive (%s); training goes on.", self._kind, why)
            self._hurry.wait(self._interval)


class AlertOutput(Output):
    """Sends every finding of a severity or above, once a code.

    Args:
        level: The least grave that is sent.
        channels: Destinations by their kind, beside the trackers.
        language: Of the sentences.
        interval: Least seconds between two alerts to one destination.
    """

    name = "alerts"

    def __init__(
        self,
        level: Severity,
        channels: Sequence[tuple[str, Channel]],
        language: str,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._settings = level, tuple(channels), language, interval
        self._sent: set[str] = set()
        self._senders: list[_Sender] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the same destinations and has sent nothing."""
        return {**self.__dict__, "_sent": set(), "_senders": None}

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """What a resumed run found before was sent then."""
        self._sent = {finding.topic for finding in findings}

    def row(self, row: Mapping[str, Any]) -> None:
        """Hurry where the run is over."""
        if row.get(keys.KIND) == keys.KIND_END:
            for sender in self._senders or ():
                sender.hurry()

    def end(self) -> None:
        """Send what is left, to all destinations at a time: one that hangs takes nothing from the others."""
        senders = self._senders or ()
        for sender in senders:
            sender.close()
        until = time.monotonic() + PATIENCE_SECONDS
        for sender in senders:
            sender.join(max(0.0, until - time.monotonic()))

    def finding(self, finding: Finding) -> None:
        """Send it, unless its code was sent or it is not grave enough."""
        level, channels, language, interval = self._settings
        if SEVERITIES.index(finding.severity) < SEVERITIES.index(level) or finding.topic in self._sent:
            return
        self._sent.add(finding.topic)
        if self._senders is None:
            trackers = (_Sender(name, channel, 0.0) for name, channel in _TRACKERS.items())
            self._senders = [*trackers, *(_Sender(kind, channel, interval) for kind, channel in channels)]
            atexit.register(self.end)
        where = "" if finding.step is None else f" @ {finding.step:,}"
        title = printable(f"ko-cpt: {finding.severity.value}: {finding.topic}{where}")
        alert = Alert(title, printable(finding.message(language)), finding.severity)
        for sender in self._senders:
            sender.send(alert)


def alert_output(where: str, given: Iterable[str] | str, language: str, environment: Mapping[str, str]) -> AlertOutput:
    """What sends findings where the user wants them.

    Args:
        where: The argument, for the error.
        given: A severity (the least that is sent; ``warning`` where none is given), addresses as Apprise has them
            (``slack://…``, ``mailto://…``, ``json://…``), or ``$NAME`` for one in an environment variable.

    Raises:
        ConfigurationError: For a text that is neither, an address that Apprise does not know, or without Apprise. An
            address is never in the error.
    """
    level, channels = Severity.WARNING, []
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"{where}: found {type(given).__name__}, expected texts")
    for text in [given] if isinstance(given, str) else given:
        if not isinstance(text, str):
            raise ConfigurationError(f"{where}: found {type(text).__name__}, expected texts")
        if text in SEVERITIES:
            level = Severity(text)
            continue
        if text.startswith("$"):
            if not text[1:].isidentifier():  # an address behind it would be a secret
                raise ConfigurationError(f"{where}: found a text with $ that is no $NAME, expected a variable's name")
            if not environment.get(text[1:]):
                raise ConfigurationError(f"{where}: found {text}, which is not set; set it to an address")
            text = environment[text[1:]]
        channels.append(_apprise_channel(where, text))
    return AlertOutput(level, channels, language)


def _apprise_channel(where: str, address: str) -> tuple[str, Channel]:
    kind = _KIND.match(address)
    if kind is None:
        raise ConfigurationError(
            f"{where}: found a text that is no address, expected {', '.join(SEVERITIES)}, an address such as "
            "slack://… or $NAME, an environment variable with one"
        )
    channel = _Apprise(address)
    try:
        known = len(channel.destination())
    except ImportError:
        raise ConfigurationError(
            f"{where}: found an address of {kind[0]}, expected Apprise; pip install 'ko_cpt_callbacks[alerts]'"
        ) from None
    if not known:
        raise ConfigurationError(f"{where}: found {kind[0]}://…, expected an address that Apprise can use")
    return kind[0].lower(), channel


@dataclass(frozen=True, slots=True)
class _Apprise:
    """A destination of Apprise."""

    address: str = field(repr=False)

    def destination(self) -> Any:
        """As Apprise has it; empty where it does not know the address."""
        import apprise  # the extra `alerts`

        # Its own log names addresses; what does not arrive is reported by this package.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        made = apprise.Apprise()
        made.add(self.address)
        return made

    def __call__(self, alert: Alert) -> bool:
        kind = _APPRISE_TYPES[alert.severity]
        # A tag or a mark in a name is text wherever it arrives.
        sent = self.destination().notify(body=alert.text, title=alert.title, notify_type=kind, body_format="text")
        return bool(sent)


def _to_trackio(alert: Alert) -> bool:
    """To the run that trackio has in this context, where it is at work."""
    trackio = sys.modules.get("trackio")
    if trackio is not None and trackio.context_vars.current_run.get() is not None:
        level = getattr(trackio.AlertLevel, _TRACKER_LEVELS[alert.severity])
        trackio.alert(title=alert.title, text=alert.text, level=level)
    return True


def _to_wandb(alert: Alert) -> bool:
    """To the run that wandb has, where it is at work."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        level = getattr(wandb.AlertLevel, _TRACKER_LEVELS[alert.severity])
        wandb.run.alert(title=alert.title, text=alert.text, level=level)
    return True


_TRACKERS: Final[Mapping[str, Channel]] = {"trackio": _to_trackio, "wandb": _to_wandb}
