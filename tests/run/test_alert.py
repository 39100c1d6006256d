"""Alerts: once a code, from a thread, to whoever listens; an address is nobody else's business."""

from __future__ import annotations

import copy
import http.server
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from messages.samples import values_of

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.run import alert as module
from ko_cpt_callbacks.run.alert import Alert, AlertOutput, alert_output
from ko_cpt_callbacks.run.finding import Finding, Severity

SECRET = "T0KEN123/B0KEN456/abcdefghijklmnopqrstuvwx"


def stands_still(step: int = 5) -> Finding:
    """A warning."""
    values = values_of("plateau", catalogue().wordings["plateau", ""])
    return Finding("plateau", Severity.WARNING, step + 1, "train", values)


def lost(step: int = 7) -> Finding:
    """An error."""
    return Finding("non-finite", Severity.ERROR, step, "train", {"loss": "NaN"}, variant="loss")


def note(step: int = 1) -> Finding:
    """What nobody is woken for."""
    return Finding("eval-too-small", Severity.INFO, step, "eval")


def _all_sent(output: AlertOutput) -> None:
    output.end()


def test_each_code_is_sent_once_from_the_level_on() -> None:
    """Of two warnings of a code the first is sent, of an error its code, of a note nothing; another run begins anew."""
    got: list[Alert] = []

    def channel(one: Alert) -> bool:
        got.append(one)
        return True

    output = AlertOutput(Severity.WARNING, [("test", channel)], "en", interval=0.0)
    output.begin({}, [], [])
    for finding in (note(), stands_still(), stands_still(50), lost()):
        output.finding(finding)
    _all_sent(output)
    assert [one.severity for one in got] == [Severity.WARNING, Severity.ERROR]
    assert "plateau @ 6" in got[0].title
    assert got[1].text == lost().message()


def test_a_resumed_run_does_not_repeat_itself() -> None:
    """What was found before a resume was sent then."""
    got: list[Alert] = []
    output = AlertOutput(Severity.INFO, [("test", lambda one: not got.append(one))], "en", interval=0.0)
    output.begin({}, [], [stands_still()])
    output.finding(stands_still(99))
    output.finding(lost())
    _all_sent(output)
    assert [one.severity for one in got] == [Severity.ERROR]


def test_a_destination_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings go on at once, and the end waits for so long as it says and no longer."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    stuck, over = threading.Event(), list[Alert]()

    def hangs(one: Alert) -> bool:
        stuck.wait(60)
        over.append(one)
        return True

    output = AlertOutput(Severity.WARNING, [("test", hangs)], "en", interval=0.0)
    for finding in (stands_still(), lost()):
        output.finding(finding)
    _all_sent(output)
    assert over == [], "the first is still on its way"
    stuck.set()


def test_destinations_that_hang_share_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hang, the process ends after one patience: each is waited for with what the others left of it."""
    now = [0.0]

    def hangs(self: Any, seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(module._Sender, "join", hangs)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    output = AlertOutput(Severity.WARNING, [(f"test{at}", lambda one: True) for at in range(5)], "en", interval=0.0)
    output.finding(lost())
    output.end()
    assert now == [module.PATIENCE_SECONDS]


@pytest.mark.parametrize("fails", ["raises", "refuses"])
def test_a_dead_destination_is_said_once_without_its_address(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    """One warning names the kind; what the error says, where an address may be, is left out; the others are sent."""
    got: list[Alert] = []

    def dead(one: Alert) -> bool:
        if fails == "raises":
            raise OSError(f"cannot reach https://hooks.example/{SECRET}")
        return False

    channels = [("slack", dead), ("test", lambda one: not got.append(one))]
    output = AlertOutput(Severity.WARNING, channels, "en", interval=0.0)
    with caplog.at_level(logging.DEBUG):
        for finding in (stands_still(), lost()):
            output.finding(finding)
        _all_sent(output)
    assert len([record for record in caplog.records if "slack" in record.getMessage()]) == 1
    assert SECRET not in caplog.text
    assert len(got) == 2


def test_alerts_to_people_keep_their_distance() -> None:
    """A second alert waits for the interval, and no longer when the run is over."""
    got: list[Alert] = []
    output = AlertOutput(Severity.WARNING, [("test", lambda one: not got.append(one))], "en", interval=3600.0)
    output.finding(stands_still())
    output.finding(lost())
    for _ in range(1000):
        if got:
            break
        time.sleep(0.01)
    assert len(got) == 1
    output.row({"kind": "end"})
    _all_sent(output)
    assert len(got) == 2


def test_a_tracker_that_is_on_gets_its_own_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb's alert of the run that it has, with its level; without a run nothing is called."""
    called: list[dict[str, Any]] = []
    levels = types.SimpleNamespace(INFO="info", WARN="warn", ERROR="error")
    run = types.SimpleNamespace(alert=lambda **values: called.append(values))
    fake = types.SimpleNamespace(run=None, AlertLevel=levels)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for there in (None, run):
        fake.run = there
        output = AlertOutput(Severity.WARNING, [], "en")
        output.finding(lost())
        _all_sent(output)
    assert [(one["level"], one["text"]) for one in called] == [("error", lost().message())]


def test_trackio_keeps_the_alert(tmp_path: Path) -> None:
    """An alert of a run that trackio has is read back by trackio's own command."""
    pytest.importorskip("trackio")
    code = (
        "import trackio; from ko_cpt_callbacks.run.alert import AlertOutput; "
        "from ko_cpt_callbacks.run.finding import Finding, Severity as S\n"
        "trackio.init(project='alerts', name='one'); trackio.log({'loss': 1.0})\n"
        "out = AlertOutput(S.WARNING, [], 'en')\n"
        "out.finding(Finding('non-finite', S.ERROR, 7, 'train', {'loss': 'NaN'}, variant='loss'))\n"
        "out.end(); trackio.finish()"
    )
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path), "HF_HOME": str(tmp_path)}
    told = {"capture_output": True, "text": True, "env": env, "check": False, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", code], **told)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "trackio.cli", "list", "alerts", "--project", "alerts", "--json"]
    read = subprocess.run(command, **told)
    assert "non-finite" in read.stdout, read.stdout + read.stderr


def test_a_copy_has_the_destinations_and_no_thread() -> None:
    """An output that has sent something can be copied and pickled, as a search over hyperparameters does."""
    output = AlertOutput(Severity.WARNING, [], "en")
    output.finding(lost())
    for twin in (copy.deepcopy(output), pickle.loads(pickle.dumps(output))):
        assert twin._senders is None
        assert twin._sent == set()
    _all_sent(output)


def test_an_address_is_in_no_text() -> None:
    """Neither an error nor a representation has it."""
    for text in (f"nothing://{SECRET}", SECRET):
        with pytest.raises(ConfigurationError) as refused:
            alert_output("alerts", [text], "en", {})
        assert SECRET not in str(refused.value)
    assert SECRET not in repr(module._Apprise(f"slack://{SECRET}"))


# -- through Apprise ---------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A local webhook: its address, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_one_alert_a_code(endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    """By an address in an environment variable, with title, text and type."""
    pytest.importorskip("apprise")
    address, got = endpoint
    output = alert_output("alerts", ["warning", "$HOOK"], "en", {"HOOK": address})
    for finding in (note(), stands_still(), stands_still(50), lost(), lost(60)):
        output.finding(finding)
    output.row({"kind": "end"})
    _all_sent(output)
    assert [(one["type"], one["message"]) for one in got] == [
        ("warning", stands_still().message()), ("failure", lost().message()),
    ]  # fmt: skip


def test_hostile_names_are_inert_in_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set's name neither calls a channel nor hides a link."""
    pytest.importorskip("apprise")
    import requests

    sent: list[str] = []

    def post(*_: Any, data: Any = None, **__: Any) -> Any:
        sent.append(str(data))
        return types.SimpleNamespace(status_code=200, content=b"ok", text="ok", headers={})

    monkeypatch.setattr(requests, "request", post)
    output = alert_output("alerts", [f"slack://{SECRET}"], "en", {})
    hostile = "eval_<!channel><https://x.example|here>\u202e\x1b[31m"
    values = {**values_of("non-finite", catalogue().wordings["non-finite", "eval"]), "split": hostile}
    output.finding(Finding("non-finite", Severity.ERROR, 7, hostile, values, variant="eval"))
    _all_sent(output)
    assert len(sent) == 1
    assert "<!channel>" not in sent[0]
    assert "<https://x" not in sent[0]
    shown = json.dumps(json.loads(sent[0]), ensure_ascii=False)
    assert "\u202e" not in shown
    assert "\x1b" not in shown
