"""``alerts=``: a training tells people what is found in it, and waits for none of them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
from e2e import job

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.run import alert


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A local webhook: its address with a secret in it, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/SECRET", got
    server.shutdown()
    server.server_close()


def _train(folder: Path, alerts: Any) -> KoCPTCallback:
    callback = KoCPTCallback(alerts=alerts)
    rows = (tiny.uneven_rows(12), tiny.uneven_rows(4, 12))
    settings = {"callbacks": [callback], "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    trainer = tiny.trainer(tiny.llama(600), folder, *rows, **settings)
    trainer.train()
    trainer.evaluate()
    assert trainer.state.global_step == 4
    return callback


def _wait(callback: KoCPTCallback) -> None:
    (output,) = (one for one in callback._outputs if isinstance(one, alert.AlertOutput))
    output.end()


def test_a_training_sends_every_code_once(
    tmp_path: Path, endpoint: tuple[str, list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    """The webhook gets each code once, and no file and no log of the run has its address."""
    pytest.importorskip("apprise")
    address, got = endpoint
    callback = _train(tmp_path, ["info", address])
    _wait(callback)
    topics = {finding.topic for finding in callback.findings}
    assert topics
    assert sorted(one["title"].split(": ")[2].split(" @")[0] for one in got) == sorted(topics)
    assert "SECRET" not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"SECRET" in path.read_bytes()]


def test_a_training_ends_though_its_endpoint_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that takes the connection and never answers costs the training nothing and does not keep it."""
    pytest.importorskip("apprise")
    monkeypatch.setattr(alert, "PATIENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        callback = _train(tmp_path, ["info", f"json://127.0.0.1:{silent.getsockname()[1]}/SECRET"])
        assert callback.findings
        _wait(callback)


def test_steps_do_not_wait_for_an_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are done while the first alert is still on its way."""
    begun, released, done = threading.Event(), threading.Event(), threading.Event()

    def hangs(_: alert.Alert) -> bool:
        begun.set()
        released.wait(30)
        done.set()
        return True

    monkeypatch.setattr(alert, "_apprise_channel", lambda where, address: ("test", hangs))
    callback = _train(tmp_path, ["info", "test://"])
    assert begun.wait(30)
    assert not done.is_set()
    released.set()
    _wait(callback)
    assert done.is_set()


def test_of_two_ranks_one_sends(tmp_path: Path, endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    """Both ranks have the findings, a NaN on the second alone among them; the webhook gets each code once."""
    pytest.importorskip("apprise")
    address, got = endpoint
    plan = {"alerts": ["info", address], "changes": {"max_steps": 4, "logging_steps": 2, "eval_steps": 2}}
    ended = forked.run_ranks(
        job.train_ranks, str(tmp_path / "run"), ranks=2, folder=tmp_path, timeout=60, nan_steps=[3], **plan
    )
    first, second = (forked.value(one)["findings"] for one in ended)
    assert first == second
    assert "non-finite" in {found["code"] for found in first}
    sent = [one["title"].split(": ")[2].split(" @")[0] for one in got]
    assert sorted(sent) == sorted(set(sent))
    assert "non-finite" in sent


def test_the_environment_asks_for_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KO_CPT_ALERTS counts where no argument is given; a mistake in it is a warning and ends nothing."""
    monkeypatch.setenv(alert.ALERTS_VARIABLE, "error")
    assert any(isinstance(one, alert.AlertOutput) for one in KoCPTCallback()._outputs)
    assert not any(isinstance(one, alert.AlertOutput) for one in KoCPTCallback(alerts=())._outputs)
    monkeypatch.setenv(alert.ALERTS_VARIABLE, "loud")
    assert not any(isinstance(one, alert.AlertOutput) for one in KoCPTCallback()._outputs)
