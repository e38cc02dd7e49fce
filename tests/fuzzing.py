"""Mutants of valid files, and a child process that must survive them.

`survey` hands n mutants of each sample to a function of a test module, in one child process, and
returns what came of each. A mutant depends on (seed, sample, number) only: `mutant` makes it again.
"""

import importlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

LONGEST = 60
"""Seconds after which a case that does not return ends the child."""

NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 10**6,
           2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]  # fmt: skip

TOKENS = [b"", b"\0", b"\n", b"\r", b'"', b"'", b",", b";", b"[" * 300, b"{" * 300, b"(" * 300,
          b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b"9" * 400, b"..", b"/dev/zero",
          b"/etc/passwd", b"\xff\xfe", b"\xef\xbb\xbf", b"&a", b"*a", b"!!python/name:os.system ",
          b"__class__", b"%s" * 9, b"A" * 5000]  # fmt: skip

WORDS = [b"", b"-1", b"0", b"1", b"1e999", b".nan", b"9" * 400, b"null", b"true", b"[]", b"{}",
         b"[[1, 2], {x: 1}]", b"{low: 1}", b"&a [1, *a]", b"&b x", b"*b", b"!!binary aGk=",
         b"!!set {x}", b"!!python/name:os.system ''", b"!!python/object/apply:os.system [ls]",
         b"2020-13-41", b"1:2:3", b"? [x]", b"<<: *b", b"'", b"\xc3\xbc", b"x" * 3000, b"0x1f",
         b"__class__", b"= ", b"1_0", b"- ", b"  "]  # fmt: skip

LEAVES = [None, True, False, -1, 0, 1, 2, 10**9, 2**63, -(2**63), 1e308, float("nan"), "", "x",
          "float16", "../x", "/dev/zero", "os.system", "__class__", [], {}, [[]], [1, 2, 3],
          {"x": 1}]  # fmt: skip

KINDS_OF_VALUE_ERROR = ("UnreadableImage",)
"""Our own, which say more to our own code alone."""

_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen",
         "os.fork", "os.forkpty", "pickle.find_class", "socket.connect", "ctypes.dlopen",
         "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")  # fmt: skip


@dataclass
class Outcome:
    """What came of one case."""

    sample: str
    number: int
    error: str = ""  # name of the exception's class; "" is success
    message: str = ""
    seconds: float = 0.0  # of the CPU
    growth: int = 0  # bytes by which the case raised the process' peak memory
    declared: int = 0  # bytes that the function says it returned or was told of
    events: list[str] = field(default_factory=list)  # programs, sockets, writes elsewhere
    warnings: list[str] = field(default_factory=list)


def mutant(content, seed, number, others=()):
    """Make the mutant of this number: one to four changes, of bytes or of parts within the file."""
    rng = np.random.default_rng([seed, zlib.crc32(content), number])
    if content[:2] == b"PK" and rng.random() < 0.7:
        return mutate_zip(content, rng)
    if content[:4] == b"\x89PNG" and rng.random() < 0.6:
        return mutate_png(content, rng)
    if content.lstrip()[:1] in (b"{", b"[") and rng.random() < 0.7:
        return mutate_json(content, rng)
    if b"\n" in content[:200] and min(content[:200]) > 8 and rng.random() < 0.7:
        return mutate_text(content, rng)
    return mutate(content, rng, others)


def mutate_text(content, rng):
    """Change words and lines of a text, whose grammar it mostly keeps."""
    for _ in range(rng.integers(1, 3)):
        lines = content.split(b"\n")
        i = int(rng.integers(len(lines)))
        words = list(re.finditer(rb"[\w.]+", lines[i]))
        match rng.integers(6):
            case 0:
                del lines[i]
            case 1:
                lines.insert(i, lines[int(rng.integers(len(lines)))])
            case _ if words:
                start, end = words[rng.integers(len(words))].span()
                other = re.findall(rb"[\w.]+", content)
                new = WORDS[rng.integers(len(WORDS))] if rng.random() < 0.7 else rng.choice(other)
                lines[i] = lines[i][:start] + bytes(new) + lines[i][end:]
        content = b"\n".join(lines)
    return content


def mutate(content, rng, others=()):
    """Change bytes: bits, numbers, tokens, truncation, splices, repetitions."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        n = len(data)
        if not n:
            return bytes(TOKENS[rng.integers(len(TOKENS))])
        # headers are where sizes and offsets stand
        at = int(rng.integers(min(n, 300) if rng.random() < 0.5 else n))
        match rng.integers(8):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2 | 3:
                size = int(rng.choice([1, 2, 4, 8]))
                number = NUMBERS[rng.integers(len(NUMBERS))] & (256**size - 1)
                data[at : at + size] = number.to_bytes(size, str(rng.choice(["little", "big"])))
            case 4:
                del data[at:]
            case 5:
                token = TOKENS[rng.integers(len(TOKENS))]
                data[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
            case 6:
                source = others[rng.integers(len(others))] if len(others) else content
                start = int(rng.integers(len(source)))
                part = source[start : start + int(rng.integers(1, 200))]
                data[at : at + (len(part) if rng.random() < 0.5 else 0)] = part
            case 7:
                length = int(rng.integers(1, 100))
                data[at : at + length] = data[at : at + length] * int(rng.choice([0, 2, 50]))
    return bytes(data)


def mutate_zip(content, rng):
    """Change a member of an archive, its name or its compression; checksums are right again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    i = int(rng.integers(len(members)))
    name, inner = members[i]
    match rng.integers(8):
        case 0:
            del members[i]
        case 1:
            members.append((name, inner))
        case 2:
            members[i] = mutate(name.encode(), rng).decode("utf-8", "replace")[:60000], inner
        case 3:
            members.insert(0, ("../" + name, inner))
        case _:
            is_json = name.endswith(".json") and rng.random() < 0.7
            members[i] = name, mutate_json(inner, rng) if is_json else mutate(inner, rng)
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(made, "w", method) as archive:
            for name, inner in members:
                archive.writestr(zipfile.ZipInfo(name), inner, method)
    return made.getvalue()


def mutate_png(content, rng):
    """Change a chunk of a PNG, and make its checksum right again."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    i = int(rng.integers(len(chunks))) if rng.random() < 0.5 else 0
    match rng.integers(6):
        case 0:
            chunks.insert(i, chunks[i])
        case 1:
            del chunks[i]
        case _:
            chunks[i][1] = mutate(chunks[i][1], rng)
    parts = [content[:8]]
    for kind, inner in chunks:
        parts += [len(inner).to_bytes(4, "big"), kind, inner]
        parts.append(zlib.crc32(kind + inner).to_bytes(4, "big"))
    return b"".join(parts)


def mutate_json(content, rng):
    """Change a value or a key of JSON, at any depth; once in a while nest it deeply."""
    try:
        tree = json.loads(content)
    except ValueError:
        return mutate(content, rng)
    if rng.random() < 0.03:
        return b'{"a":' * 5000 + content + b"}" * 5000
    holders = []
    stack = [tree]
    while stack:
        one = stack.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one)))
        holders += [(one, key) for key in keys]
        stack += [one[key] for key in keys if isinstance(one[key], dict | list)]
    for _ in range(rng.integers(1, 3)):
        if not holders:
            break
        holder, key = holders[rng.integers(len(holders))]
        if isinstance(holder, dict) and key not in holder:
            continue
        match rng.integers(4):
            case 0 if isinstance(holder, dict):
                holder[str(rng.choice(["x", "__class__", "kind", key + "_"]))] = holder.pop(key)
            case 1 if isinstance(holder, dict):
                del holder[key]
            case 2:
                other, name = holders[rng.integers(len(holders))]
                if isinstance(other, list) or name in other:
                    holder[key] = json.loads(json.dumps(other[name]))
            case _:
                holder[key] = LEAVES[rng.integers(len(LEAVES))]
    return json.dumps(tree).encode()


def survey(target, samples, n, seed, folder, *, limit=3 << 30, numbers=None):
    """Try n mutants of each sample in a child process.

    Parameters
    ----------
    target : str
        "module:function" of the tests. The function takes the path of a mutant, and returns how
        many bytes of arrays the file declared, or None; an error of it may have them as "declared".
    samples : dict of str to bytes
        Valid files, by the names under which mutants are written. Each is tried unchanged first.
    n, seed : int
        How many mutants of each, and which.
    folder : Path
        For the files; what killed the child is still there.
    limit : int
        Address space in bytes that the child may take beyond what it has after the unchanged files.
    numbers : iterable of int, optional
        Only the mutants of these numbers.

    Returns
    -------
    list of Outcome
        Of unchanged files (number -1) and mutants.
    """
    source = Path(folder, "samples")
    source.mkdir(parents=True, exist_ok=True)
    for name, content in samples.items():
        (source / name).write_bytes(content)
    job = {"target": target, "names": list(samples), "seed": seed, "folder": str(folder),
           "limit": limit, "numbers": list(range(n) if numbers is None else numbers)}  # fmt: skip
    here = Path(__file__).parent
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "default"}
    env["PYTHONPATH"] = os.pathsep.join(
        [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    command = [sys.executable, "-c", "import fuzzing; fuzzing.child()"]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, env=env, cwd=folder
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    outcomes = [Outcome(**line) for line in lines]
    expected = len(samples) * (1 + len(job["numbers"]))
    if done.returncode or len(outcomes) != expected:
        last = outcomes[-1] if outcomes else None
        raise AssertionError(
            f"the child ended with {done.returncode} after {len(outcomes)} of {expected} cases, "
            f"the last one {last}; the file is in {folder}\n{done.stderr[-3000:]}"
        )
    return outcomes


def faults(outcomes, allowed=("ValueError",), *, extra=100 << 20, seconds=10.0):
    """List what must not be: other errors, sentences without the path, programs, memory, time."""
    wrong = []
    for one in outcomes:
        what = []
        if one.number < 0 and one.error:
            what.append("the unchanged file is refused")
        if one.error and one.error not in allowed:
            what.append("another error")
        if one.error and (one.sample not in one.message or "\n" in one.message):
            what.append("no sentence with the path")
        if one.number >= 0 and one.events:  # the first one loads modules
            what.append("it did something")
        if one.number >= 0 and one.growth > 2 * one.declared + extra:
            what.append(f"{one.growth >> 20} MB")
        if one.number >= 0 and one.seconds > seconds:
            what.append("too long")
        if what:
            wrong.append((", ".join(what), one))
    return wrong


def counts(outcomes):
    """Say how many ended how."""
    found = {}
    for one in outcomes:
        found[one.error or "read"] = found.get(one.error or "read", 0) + 1
    return found


def child():
    """Work through a job from standard input; one line of JSON a case."""
    import faulthandler

    job = json.loads(sys.stdin.read())
    module, _, name = job["target"].partition(":")
    function = getattr(importlib.import_module(module), name)
    folder = Path(job["folder"])
    samples = {name: (folder / "samples" / name).read_bytes() for name in job["names"]}
    others = list(samples.values())
    events = []
    report = os.fdopen(os.dup(1), "w")  # whatever a library prints is not a report
    os.dup2(2, 1)
    _watch(events, folder)
    for number in [-1, *job["numbers"]]:
        for name, content in samples.items():
            changed = number >= 0
            path = folder / name
            path.write_bytes(mutant(content, job["seed"], number, others) if changed else content)
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            outcome = attempt(function, path, Outcome(name, number), events)
            faulthandler.cancel_dump_traceback_later()
            report.write(json.dumps(asdict(outcome)) + "\n")
            report.flush()
        if number < 0:  # all modules are loaded now
            soft = _status("VmSize") + job["limit"]
            resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))


def attempt(function, path, outcome, events):
    """Call a function, and fill in what came of it."""
    before = _reset_peak()
    del events[:]
    start = time.process_time()  # a busy machine may leave it none for seconds
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome.declared = int(function(path) or 0)
        except Exception as error:
            name = type(error).__name__
            outcome.error = "ValueError" if name in KINDS_OF_VALUE_ERROR else name
            outcome.message = str(error)[:500]
            outcome.declared = getattr(error, "declared", 0)
    outcome.seconds = time.process_time() - start
    outcome.growth = max(0, _status("VmHWM") - before)
    outcome.events = sorted(set(events))
    outcome.warnings = [str(one.message)[:200] for one in caught]
    return outcome


def _watch(events, folder):
    """Note what a program must not do because of a file that it reads."""
    home = str(folder)

    def hook(event, args):
        if event in _RUNS:
            events.append(f"{event} {args[:1]!r}"[:200])
        elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            if not str(args[0]).startswith((home, "/dev/null")):
                events.append(f"{event} {args[:2]!r}"[:200])

    sys.addaudithook(hook)


def _reset_peak():
    """Forget the highest memory so far, and give the present one, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) << 10
    raise KeyError(name)
