#!/usr/bin/env python3
"""What comments and documents point at is there: files by path or name, and sections of docs/method.md by heading.

A path is meant from the root, from host/, or from the folder of the file that names it or one above; a bare name may be of
any file. Names in capitals (NAME.c) stand for what is yet to be written. Line numbers go stale at the next change and are refused.
"""
import os
import re
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
EXTENSIONS = "c|h|cu|cuh|cpp|py|sh|md|cmake|csv|yml|sbatch|proto|awk"
NAME = re.compile(r"(?<![\w./$<>{}*-])((?:\.\./)?[a-z0-9][\w./-]*\.(?:%s))(?![\w*-])(:\d+)?" % EXTENSIONS)
SECTION = re.compile(r'method\.md,\s*(?:\*\s*)?(?://\s*)?"([^"]+)"')
# Of other projects, generated, or what a command of an example writes.
FOREIGN = {"cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "cudnn.h", "dnnl.h", "nd_version.h", "onnx_subset.pb-c.h", "halve.c", "math.h",
           "stdio.h", "new.csv", "old.csv", "rows.csv", "report.md", "run_manifest.py"}

tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.split("\n")
tracked = [path for path in tracked if path and os.path.exists(path)]
known = set(tracked)
names = {os.path.basename(path) for path in tracked}
headings = {line.lstrip("#").strip() for line in open("docs/method.md") if line.startswith("#")} if "docs/method.md" in known else set()


def comments(path, text):
    """The text of the comments, with everything else blanked so that line numbers stay."""
    if path.endswith(".md"):
        return text
    if re.search(r"\.(c|h|cu|cuh|cpp|proto)$", path):
        pattern = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*'
    else:
        pattern = r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|(?m:(?:^|(?<=\s))#[^\n]*)'
    kept, last = [], 0
    for match in re.finditer(pattern, text, re.S):
        kept.append(re.sub(r"[^\n]", " ", text[last:match.start()]))
        quoted = match.group()[0] in "\"'"
        kept.append(re.sub(r"[^\n]", " ", match.group()) if quoted else match.group())
        last = match.end()
    return "".join(kept)


def exists(name, path):
    if "/" not in name:
        return name in names or name in FOREIGN
    folders, folder = ["", "host"], os.path.dirname(path)
    while folder:
        folders.append(folder)
        folder = os.path.dirname(folder)
    return any(os.path.normpath(os.path.join(folder, name)) in known for folder in folders) or os.path.basename(name) in FOREIGN


checked = failed = 0
for path in tracked:
    if not re.search(r"\.(c|h|cu|cuh|cpp|proto|md|sh|cmake)$|CMakeLists\.txt$|^bootstrap$|^\.ci/", path) or path.startswith("tests/data"):
        continue
    text = comments(path, open(path, errors="replace").read())
    for match in NAME.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        checked += 1
        if match.group(2):
            print(f"{path}:{line}: {match.group()}: a line number goes stale; name the function")
            failed += 1
        elif not re.search(r"[A-Z]{3}", os.path.basename(match.group(1))) and not exists(match.group(1), path):
            print(f"{path}:{line}: {match.group(1)} does not exist")
            failed += 1
    for match in SECTION.finditer(re.sub(r"\n\s*(?:\*|//|#)?\s*", " ", text)):
        checked += 1
        if match.group(1) not in headings:
            print(f'{path}: docs/method.md has no section "{match.group(1)}"')
            failed += 1
if checked < 100:
    sys.exit(f"only {checked} references found: wrong folder?")
print(f"references: {checked}")
sys.exit(failed > 0)
