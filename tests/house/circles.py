#!/usr/bin/env python3
"""Files that need each other: circles.py [ROOT], over the tracked sources of the rooms.

Two graphs must have no circle: headers by what they include, and sources by the external names that they use and another
source defines (nd_...: no static function has such a name; dialect.sh sees to that)."""
import os
import re
import subprocess
import sys

SOURCES = (".c", ".cu", ".cpp")
HEADERS = (".h", ".cuh")
ROOMS = ("host/", "cuda/", "eval/", "bench/", "datasets/")


def code(text):
    """Without comments, literals and preprocessor lines other than macros."""
    text = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', " ", text, flags=re.S)
    return re.sub(r"^[ \t]*#[ \t]*(?:include|if|ifdef|ifndef|elif|undef|pragma)[^\n]*", " ", text, flags=re.M)


def defined(text):
    """External functions and tables: what begins in the first column, is not static and has a body or a value."""
    names = re.findall(r"^(?!static|typedef|extern|struct \w+ \{|#)\w[^;{}=()]*?\b(nd_\w+)\([^;{}]*\)\s*\{", text, re.M)
    return names + re.findall(r"^(?!static|typedef|extern)(?:const )?\w[^;{}=()]*?\b(nd_\w+)(?:\[[^\]]*\])* = ", text, re.M)


def circles(graph):
    """Strongly connected components of more than one node (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def main():
    sys.setrecursionlimit(10000)
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else ".")
    files = [f for f in subprocess.check_output(["git", "ls-files"], text=True).split() if f.startswith(ROOMS)]
    texts = {f: open(f).read() for f in files if f.endswith(SOURCES + HEADERS) and ".pb-c." not in f}

    includes = {}
    for file, text in texts.items():
        if file.endswith(HEADERS):
            named = re.findall(r'^[ \t]*#[ \t]*include "([^"]+)"', text, re.M)
            includes[file] = {path for name in named for path in (name, "host/" + name) if path in texts}

    codes = {f: code(t) for f, t in texts.items() if f.endswith(SOURCES)}
    home = {}
    for file, text in codes.items():
        for name in defined(text):
            home.setdefault(name, file)
    uses, why = {}, {}
    for file, text in codes.items():
        for name in set(re.findall(r"\bnd_\w+", text)):
            other = home.get(name)
            if other and other != file:
                uses.setdefault(file, set()).add(other)
                why.setdefault((file, other), name)

    found = circles(uses)
    for circle in circles(includes):
        print("headers that include each other: " + ", ".join(circle))
    for circle in found:
        print("files that call each other:")
        for (a, b), name in sorted(why.items()):
            if a in circle and b in circle:
                print(f"  {a} uses {name} of {b}")
    if len(home) < 300:
        sys.exit(f"only {len(home)} definitions found: wrong folder?")
    sys.exit(1 if circles(includes) or found else 0)


main()
