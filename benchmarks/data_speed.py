"""How fast a corpus becomes rows: MB of UTF-8 a second, beside ``encode_batch`` alone and beside datatrove.

``python benchmarks/data_speed.py [--megabytes 200] [--beside 20] [--workers N] [--datatrove PYTHON]``. The text is made
here: documents of natural lengths, of the sentences of ``../shared/data/corpus/ko_laws.txt``, the bundled Korean and
Debian's Korean manuals (``/usr/share/man/ko``), as far as they are there; one in thirty is another one with up to a
tenth of its characters changed. All in one run, each in a process of its own: ``encode_batch`` with as many threads as
there are workers; the whole pipeline (share of Hangul, repetition, words, packing) with each ``data.duplicates``, and
its peak memory with ``near``; the same as it was before, from the history, which looked for no duplicates: beside it
stands ``keep``; the sketch and the index of near duplicates alone; and, where the interpreter of an environment with
``datatrove[processing]`` and ``kiwipiepy<0.22`` is given (later ones lack the model that datatrove asks for), its
Gopher repetition filter and its tokenizer step: with words as white space separates them, which it has to be handed,
and on a little text with its own splitter for Korean. The pipeline has all of the text; the others, which are no
slower on more of it, have the first ``--beside`` MB. Speeds are of the processor time of a job and its workers,
without what the first process of the pipeline imports, so that a busy machine changes them little. Exits with 1 where
the pipeline has less than ``--share`` of the speed of ``encode_batch``, or takes more than ``--limit`` MB.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import io
import json
import os
import random
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LAWS = ROOT.parent / "shared" / "data" / "corpus" / "ko_laws.txt"
MANUALS = Path("/usr/share/man/ko")
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TROVE = """
import sys, time
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.utils.word_tokenizers import WordTokenizer, load_word_tokenizer
class Blanks(WordTokenizer):
    def word_tokenize(self, text):
        return text.split()
    def sent_tokenize(self, text):
        return text.splitlines()
    def span_tokenize(self, text):
        raise NotImplementedError
folder, splitter = sys.argv[1:]
words = Blanks() if splitter == "blanks" else "ko"
load_word_tokenizer(words).word_tokenize("가")  # Kiwi reads its model with the first text
begin = time.process_time()
LocalPipelineExecutor(
    pipeline=[
        JsonlReader(folder + "/texts"),
        GopherRepetitionFilter(language=words),
        DocumentTokenizer(
            folder + "/" + splitter, tokenizer_name_or_path=folder + "/tokenizer/tokenizer.json", eos_token="</s>"
        ),
    ],
    logging_dir=folder + "/logs-" + splitter,
).run()
print('{"seconds": ' + str(time.process_time() - begin) + "}")
"""
# The last one that encodes whole texts, and filters a document at a time.
BEFORE = "3556a8c^"
# Its splitter takes a hundred times as long as all the rest.
KIWI_MEGABYTES = 0.3


def sentences() -> list[str]:
    """Every sentence that is mostly Hangul, once."""
    texts = [LAWS.read_text("utf-8")] if LAWS.is_file() else []
    for line in (ROOT / "recipes" / "text" / "ko_prose.jsonl").read_text("utf-8").splitlines():
        texts.append(json.loads(line)["text"])
    for path in sorted(MANUALS.rglob("*.gz")):
        page = gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")
        texts.append(re.sub(r"^[.'].*?$|\\f.|\\", "", page, flags=re.MULTILINE))
    found = [part.strip() for text in texts for line in text.splitlines() for part in re.split(r"(?<=[.다]) ", line)]
    return [part for part in dict.fromkeys(found) if len(part) > 8 and len(re.findall("[가-힣]", part)) * 3 > len(part)]


def documents(pool: list[str], size: int) -> Iterator[str]:
    """Documents of so many bytes together."""
    draw = random.Random(0)
    last: list[str] = []
    while size > 0:
        if last and draw.random() < 1 / 30:
            letters = list(draw.choice(last))
            for place in draw.sample(range(len(letters)), round(draw.random() * 0.1 * len(letters))):
                letters[place] = draw.choice("가나다라마바사")
            text = "".join(letters)
        else:
            wanted, parts = min(max(int(draw.lognormvariate(7.2, 0.9)), 200), 60_000), []
            while wanted > 0:
                parts.append(draw.choice(pool))
                wanted -= len(parts[-1].encode())
            text = "".join(part + draw.choice("    \n") for part in parts)
            last = [*last[-999:], text]
        size -= len(text.encode())
        yield text


def prepare(folder: Path, megabytes: float) -> None:
    """The text, and a tokenizer of 32,000 tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pool = sentences()
    tokenizer = Tokenizer(models.BPE())
    step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), step])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(pool, trainer)
    wrapped: Any = PreTrainedTokenizerFast
    wrapped(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder / "tokenizer")
    (folder / "texts").mkdir()
    with (folder / "texts" / "ko.jsonl").open("w", encoding="utf-8") as file:
        for text in documents(pool, round(megabytes * 1e6)):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def texts_of(folder: Path) -> Iterator[str]:
    """The text again."""
    with (folder / "texts" / "ko.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def megabytes(folder: Path) -> float:
    """Of the text."""
    return sum(len(text.encode()) for text in texts_of(folder)) / 1e6


def first_part(folder: Path, size: float) -> Path:
    """A folder with the same tokenizer, and so many megabytes of the text."""
    part = folder / f"part-{size:g}"
    (part / "texts").mkdir(parents=True)
    (part / "tokenizer").symlink_to(folder / "tokenizer")
    with (part / "texts" / "ko.jsonl").open("w", encoding="utf-8") as file:
        for text in texts_of(folder):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size -= len(text.encode()) / 1e6
            if size <= 0:
                break
    return part


def old_version(folder: Path) -> bool:
    """The package as it was before rows were made word by word, in ``before``; False where history is not here."""
    command = ["git", "-C", str(ROOT), "archive", BEFORE, "ko_cpt_callbacks", "recipes"]
    packed = subprocess.run(command, capture_output=True, check=False)
    if not packed.returncode:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder / "before", filter="data")
    return not packed.returncode


def job(name: str, folder: Path, workers: int) -> dict[str, Any]:
    """One measurement, in this process."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    if name == "encode_batch":
        texts = list(texts_of(folder))
        begin = time.process_time()
        for place in range(0, len(texts), 1000):
            tokenizer.backend_tokenizer.encode_batch(texts[place : place + 1000], add_special_tokens=False)
        return {"seconds": time.process_time() - begin}
    if name == "duplicates":
        from ko_cpt_callbacks.training.data.duplicates import DuplicateIndex
        from ko_cpt_callbacks.training.data.sketch import sketch

        index = DuplicateIndex(near=True, folder=folder)
        texts = list(texts_of(folder))
        times = [0.0, 0.0]
        for place in range(0, len(texts), 500):
            begin = time.process_time()
            sketches = sketch(texts[place : place + 500])
            middle = time.process_time()
            index.add(sketches)
            times[0] += middle - begin
            times[1] += time.process_time() - middle
        return {"seconds": sum(times), "sketch": times[0], "index": times[1]}
    from ko_cpt_callbacks.training.data import filters
    from ko_cpt_callbacks.training.data.packing import PackSettings
    from ko_cpt_callbacks.training.data.rows import packed_rows
    from ko_cpt_callbacks.training.data.sources import Source

    options: dict[str, Any] = {}
    repeated: Any = filters
    if name != "before":
        from ko_cpt_callbacks.training.data import repetition as repeated
        from ko_cpt_callbacks.training.data.removal import Duplicates
        from ko_cpt_callbacks.training.data.rows import Making
        from ko_cpt_callbacks.workers import keep_freed_memory

        options["making"] = Making(workers)
        options["duplicates"] = {"near": Duplicates(), "exact": Duplicates(near=False)}.get(name)
    judges = (filters.HangulShare(0.5), repeated.RepeatedNgrams())
    source = Source("ko", (folder / "texts" / "ko.jsonl",), filters=judges)
    if name != "before":
        keep_freed_memory()
    gc.freeze()  # as ko-cpt data does
    begin = time.process_time()
    rows = packed_rows([source], tokenizer, PackSettings(2048), folder / f"rows-{name}", **options)
    seconds_here = time.process_time() - begin
    status = Path("/proc/self/status").read_text("ascii")
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    workers_used = resource.getrusage(resource.RUSAGE_CHILDREN)  # with what they import
    seconds = seconds_here + workers_used.ru_utime + workers_used.ru_stime
    worker = workers_used.ru_maxrss / 1024
    entry = rows.report["sources"]["ko"]
    dropped = {part["filter"]: part["dropped_documents"] for part in entry["filters"]}
    kept = entry["documents"] / entry["available"]
    return {"seconds": seconds, "peak": peak, "worker": worker, "kept": kept, "dropped": dropped}


def measure(name: str, folder: Path, workers: int, trove: str | None) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    parallel = {"TOKENIZERS_PARALLELISM": str(name == "encode_batch").lower(), "RAYON_NUM_THREADS": str(workers)}
    home = folder / "before" if name == "before" else ROOT
    environment = {**os.environ, **parallel, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(home)}
    command = [sys.executable, __file__, "--job", name, str(folder), str(workers)]
    if trove is not None:
        command = [trove, "-c", TROVE, str(folder), name.partition(" ")[2]]
        environment["TOKENIZERS_PARALLELISM"] = "false"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the table; 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--beside", type=float, default=20, help="megabytes")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--datatrove", metavar="PYTHON", help="interpreter of an environment with datatrove")
    parser.add_argument("--share", type=float, default=0.6)
    parser.add_argument("--limit", type=float, default=1536, help="MB of memory")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.job:
        name, folder, workers = wanted.job
        print(json.dumps(job(name, Path(folder), int(workers))))
        return 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder, wanted.megabytes)
        part = first_part(folder, wanted.beside)
        size, less = megabytes(folder), megabytes(part)
        print(f"{size:.0f} MB of Korean, {wanted.workers} workers; MB of UTF-8 a second of processor time")
        trove = {"datatrove blanks": part, "datatrove kiwi": first_part(folder, KIWI_MEGABYTES)}
        jobs = {"encode_batch": part, "keep": folder, "exact": folder, "near": folder, "duplicates": part}
        jobs |= trove if wanted.datatrove else {}
        if old_version(part):
            jobs["before"] = part
        else:
            print(f"before: not measured, {BEFORE} is not in the history here")
        found, speeds = {}, {}
        for name, text in jobs.items():
            found[name] = measure(name, text, wanted.workers, wanted.datatrove if name in trove else None)
            speeds[name] = megabytes(text) / found[name]["seconds"]
            share = speeds[name] / speeds["encode_batch"]
            print(f"{name:18}{speeds[name]:8.2f}{share:8.2f} times encode_batch", flush=True)
    for name in ("keep", "exact", "near") if "before" in speeds else ():
        print(f"data.duplicates: {name}, {speeds[name] / speeds['before']:.1f} times the speed before")
    whole, near = found["near"], found["duplicates"]
    dropped = ", ".join(f"{name} {count:,}" for name, count in whole["dropped"].items())
    print(f"memory: {whole['peak']:.0f} MB in the first process, {whole['worker']:.0f} in the largest worker")
    print(f"pipeline: {whole['kept']:.1%} kept; dropped: {dropped}")
    print(f"duplicates, one core: sketch {less / near['sketch']:.1f}, index {less / near['index']:.1f}")
    slow = speeds["near"] < wanted.share * speeds["encode_batch"]
    return int(slow or max(whole["peak"], whole["worker"]) > wanted.limit)


if __name__ == "__main__":
    sys.exit(main())
