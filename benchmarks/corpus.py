"""What it costs to make a corpus ready: seconds, peak memory, and tokens saved.

``python benchmarks/corpus.py [CORPUS_FOLDER]`` (default ``../shared/data/corpus`` beside the repository, with
``ko_laws.txt`` and ``en_tinyshakespeare.txt``). For a byte-level and a SentencePiece-like base tokenizer, both made
here on English and the bundled Korean: extension by 2,000 tokens, the three filters (perplexity by a tiny random
model: its speed is that of nothing real), packing, and all of it, each in a process of its own; then all of it once
more, with the corpus 20 times over. Exits with 1 if all of it together takes more than ``--seconds`` or
``--megabytes``, or if 20 times the corpus takes more than ``--growth`` times the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "data" / "corpus"
BASES = ("byte-level", "sentencepiece")
JOBS = ("imports", "extension", "filters", "packing", "all")
TOKENS, MIN_COUNT, LENGTH = 2000, 5, 2048


def peak_megabytes() -> float:
    """Of this process since it was started; what its parent held does not count."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def make_bases(corpus: Path, folder: Path) -> None:
    """Base tokenizers that know English well and Korean a little."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]
    from bytes_exact import byte_level, sentencepiece_bpe
    from tiny import byte_level_tokenizer, english, korean

    lines = (corpus / "en_tinyshakespeare.txt").read_text(encoding="utf-8").splitlines()
    texts = [*lines, *english(), *korean()]
    byte_level_tokenizer().save_pretrained(folder / "judge")
    byte_level(texts, 8000).save_pretrained(folder / "byte-level")
    sentencepiece_bpe(texts, 8000, "first").save_pretrained(folder / "sentencepiece")


def documents(path: Path, times: int) -> Iterator[str]:
    """Lines, read and forgotten."""
    for _ in range(times):
        with path.open(encoding="utf-8") as file:
            yield from (line for line in map(str.rstrip, file) if line)


def job(name: str, base: str, corpus: Path, folder: Path, times: int) -> dict[str, Any]:
    """One measurement, in this process."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from ko_cpt_callbacks.recipe.schema import PerplexityBand as Band
    from ko_cpt_callbacks.training.data.filters import (
        FilterReport,
        HangulShare,
        PerplexityBand,
        keep_documents,
    )
    from ko_cpt_callbacks.training.data.packing import PackSettings
    from ko_cpt_callbacks.training.data.repetition import RepeatedNgrams
    from ko_cpt_callbacks.training.data.rows import packed_rows
    from ko_cpt_callbacks.training.data.sources import Source, read_documents
    from ko_cpt_callbacks.training.model.vocabulary import extend_tokenizer, measure_fertility

    laws = corpus / "ko_laws.txt"
    tokenizer = AutoTokenizer.from_pretrained(folder / base)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    judge = AutoTokenizer.from_pretrained(folder / "judge")
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(judge), **size))
    band = PerplexityBand(Band(model="random", low=0, high=1e9, max_tokens=64), "cpu")
    band.model_and_tokenizer = model.eval(), judge
    filters = (HangulShare(0.5), RepeatedNgrams(), band)
    found: dict[str, Any] = {"before": peak_megabytes()}
    begin = time.perf_counter()
    if name in ("extension", "all"):
        made = extend_tokenizer(tokenizer, documents(laws, times), TOKENS, MIN_COUNT)
        found["new"] = len(made) - len(tokenizer)
        before, after = measure_fertility(documents(laws, 1), tokenizer, made)
        for key, entry in (("base", before), ("extended", after)):
            found[key] = [entry.tokens, entry.tokens_per_character, entry.bytes_per_token]
        tokenizer = made
    if name == "filters":
        source = Source("ko", (laws,) * times)
        reports = [FilterReport(part.name) for part in filters]
        found["documents"] = sum(1 for _ in keep_documents(read_documents(source), filters, reports))
        found["dropped"] = {entry.filter: (entry.dropped_documents, entry.dropped_bytes) for entry in reports}
    if name in ("packing", "all"):
        source = Source("ko", (laws,) * times, filters=filters if name == "all" else ())
        rows = packed_rows([source], tokenizer, PackSettings(LENGTH), folder / f"{base}-{name}-{times}")
        found["rows"] = len(rows.rows)
    return {**found, "seconds": time.perf_counter() - begin, "peak": peak_megabytes()}


def measure(name: str, base: str, corpus: Path, folder: Path, times: int) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, str(corpus), "--job", name, base, str(folder), str(times)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the table; 1 where a limit is passed, 2 without a corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", type=Path, default=CORPUS)
    parser.add_argument("--times", type=int, default=20, help="how often the corpus is repeated")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--megabytes", type=float, default=1024)
    parser.add_argument("--growth", type=float, default=1.1)
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.job:
        name, base, folder, times = wanted.job
        if name == "bases":
            make_bases(wanted.corpus, Path(folder))
        else:
            print(json.dumps(job(name, base, wanted.corpus, Path(folder), int(times))))
        return 0
    if not (wanted.corpus / "ko_laws.txt").is_file():
        print(f"{wanted.corpus}: no ko_laws.txt; give the folder of a corpus", file=sys.stderr)
        return 2
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(wanted.corpus), "--job", "bases", "-", folder, "1"]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
        print(f"{'base':14}{'job':15}{'seconds':>9}{'peak MB':>9}")
        for base in BASES:
            found = {name: measure(name, base, wanted.corpus, Path(folder), 1) for name in JOBS}
            whole = f"all, {wanted.times} times"
            found[whole] = measure("all", base, wanted.corpus, Path(folder), wanted.times)
            for name, entry in found.items():
                print(f"{base:14}{name:15}{entry['seconds']:9.1f}{entry['peak']:9.0f}")
                for key in ("new", "base", "extended", "dropped", "documents", "rows"):
                    if key in entry and (name in ("extension", "filters") or key == "rows"):
                        print(f"{'':14}{key}: {_shown(entry[key])}")
            growth = found[whole]["peak"] / found["all"]["peak"]
            print(f"{base:14}{wanted.times} times the corpus, {growth:.3f} times the peak memory")
            if growth > wanted.growth:
                wrong.append(f"{base}: {growth:.2f} times the memory for {wanted.times} times the corpus")
            if found["all"]["seconds"] > wanted.seconds or found["all"]["peak"] > wanted.megabytes:
                wrong.append(f"{base}: {found['all']['seconds']:.0f} s and {found['all']['peak']:.0f} MB")
    print("\n".join(wrong) or f"within {wanted.seconds:.0f} s, {wanted.megabytes:.0f} MB and {wanted.growth} times")
    return int(bool(wrong))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        tokens, per_character, bytes_per_token = value
        return f"{tokens:,} tokens, {per_character:.3f} tokens/character, {bytes_per_token:.2f} bytes/token"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
