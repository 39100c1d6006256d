"""The checkpoints of a run: which equal the best, and which are still on disk."""

from __future__ import annotations

from ko_cpt_callbacks.checkpoint.account import account_of
from ko_cpt_callbacks.checkpoint.page import account_cells, keep_line
from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.element import Content, element, table
from ko_cpt_callbacks.report.subject import Subject

__all__ = ["checkpoints"]


def checkpoints(subject: Subject, words: Catalogue) -> list[Content]:
    """A table a part that saved one, with which to keep."""
    made: list[Content] = []
    for part in subject.parts:
        try:
            account = account_of(part.judgement.run, retention=part.judgement.watch.retention)
        except (KoCPTError, OSError):  # a folder that went meanwhile: the report shows what can be read
            continue
        if account.checkpoints:
            head, *rows = account_cells(account, words)
            said = " · ".join(text for text in (part.name, keep_line(account, words.language)) if text)
            made += [element("p", said), table(head, rows, name=words.say("checkpoints"))]
    return made
