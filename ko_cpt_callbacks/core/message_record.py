"""Sentences of the rules on the record of a run: `record-behind`, `foreign-record`, `two-writers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES"]

_TAKEN: Final = (
    " {rows:n row of the record does|rows of the record do} not count any more; those of the checkpoint stand in their "
    "place. Give every run an output_dir of its own."
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("record-behind", ""): {
        "en": "The record ends at step {record_step:n}, and {file} goes on to step {state_step:n}: "
        "its {rows:n row is|rows are} judged too. What only the callback measures is missing there. Look for a full "
        "disk or lost files."
    },
    ("foreign-record", "differs"): {
        "en": "The record in this folder is not of the run that resumes at step {step:n}: at step {first_step:n} it "
        "has other numbers than the checkpoint." + _TAKEN
    },
    ("foreign-record", "apart"): {
        "en": "The record in this folder is not of the run that resumes at step {step:n}: it has no logged step in "
        "common with the checkpoint." + _TAKEN
    },
    ("two-writers", ""): {
        "en": "Another process ({process}) writes into this run folder. This run leaves its record alone and writes no "
        "files. Give every run an output_dir of its own, or wait for the other's end and start again."
    },
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "record-behind": {
        "en": Explanation(
            meaning="rows.jsonl stops before the run did: its last writes failed or the file was lost, and the "
            "Trainer's own state tells of later steps. A verdict on the record alone would be one on a stump.",
            decided="warning, by ko-cpt check: the trainer_state.json of the folder, or of its latest checkpoint, has "
            "rows after the last one of the record, the numbers of the steps that both have are equal, and the later "
            "rows are not ones that a resume superseded. They are judged together with the record.",
            action="Look at the run's log for a write that failed (a full disk, a quota) and make room. A resume makes "
            "the record whole again, from the checkpoint.",
        )
    },
    "foreign-record": {
        "en": Explanation(
            meaning="The run resumes in a folder whose record is another run's. Its findings would be the other run's "
            "too, so what is not this run's is marked superseded and kept.",
            decided="warning, at a resume: of a row that record and checkpoint both have, the Trainer's loss, gradient "
            "norm or learning rate differs by more than one in a million (chosen, not measured), or both have training "
            "rows and none at the same step. Rows from the first difference on are superseded, all of them where "
            "no row agrees.",
            action="Give every run an output_dir of its own. If this is one run after all, it was resumed from a "
            "checkpoint of an earlier attempt: nothing needs to be done.",
        )
    },
    "two-writers": {
        "en": Explanation(
            meaning="Two jobs share one output_dir. The first holds the record; rows of the second would mix with it, "
            "so the second writes no files. Its findings are in the console and in callback.findings. Their "
            "checkpoints overwrite each other all the same.",
            decided="warning, when training or an evaluation begins: another living process holds the lock in "
            "<output_dir>/ko_cpt/.lock. Asking for it never waits. Where the file system has no locks nobody can tell, "
            "and that is said in the log.",
            action="Stop one of the two, and give every run an output_dir of its own.",
        )
    },
}
