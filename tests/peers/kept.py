#!/usr/bin/env python3
"""The tables of host/model/onnx/onnx_kept.c beside the operators of the onnx package: a node keeps its bytes in another
opset only where all that it can say there was said so in its own, and does where the operator is the same version.

usage: kept.py
"""
import pathlib
import re
import sys

import onnx

SOURCE = pathlib.Path(__file__).parents[2] / "host/model/onnx/onnx_kept.c"
WRITTEN = (17, 19)  # opsets that nd writes anew
FIRST = 7  # that it reads


def tables():
    text = SOURCE.read_text()
    operators = re.findall(r'^    \{"(\w+)", (\d+)\},', text, re.M)
    changes = re.findall(r'^    \{"(\w+)", (\d+), (true|false)\},', text, re.M)
    return {name: int(since) for name, since in operators}, [(name, int(opset), adds == "true") for name, opset, adds in changes]


def is_same(operators, changes, name, source, target):
    """As kept_is_same says it."""
    first, last = sorted((source, target))
    between = [adds for of, opset, adds in changes if of == name and first < opset <= last]
    return first >= operators[name] and all(adds and source < target for adds in between)


def attributes(schema):
    return {name: (a.type, a.required, a.default_value.SerializeToString()) for name, a in schema.attributes.items()}


def difference(old, new):
    """Why what is said by `old` may be something else by `new`, or None."""
    had, has = attributes(old), attributes(new)
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    for name, what in had.items():
        if has.get(name) != what:
            return f"attribute {name}"
    for name in has.keys() - had.keys():
        if has[name][1]:
            return f"attribute {name} is required"
    if len(new.inputs) < len(old.inputs) or any(i.option == single for i in new.inputs[len(old.inputs):]):
        return "inputs"
    if any(a.option != single and b.option == single for a, b in zip(old.inputs, new.inputs)):
        return "an input is required"
    return None if len(old.outputs) == len(new.outputs) else "outputs"


def main():
    operators, changes = tables()
    wrong, pairs = [], 0
    for name in operators:
        for target in WRITTEN:
            for source in range(FIRST, onnx.defs.onnx_opset_version() + 1):
                old, new = (onnx.defs.get_schema(name, opset) if onnx.defs.has(name, opset) else None
                            for opset in (source, target))
                same = is_same(operators, changes, name, source, target)
                pairs += same
                if same:
                    why = difference(old, new) if old and new else "not there"
                    if why:
                        wrong.append(f"{name} of opset {source} in {target}: {why}")
                elif old and new and old.since_version == new.since_version:
                    wrong.append(f"{name} of opset {source} is that of {target}")
    print("\n".join([*wrong, f"kept nodes: {pairs} operators in other opsets, {len(wrong)} wrong"]))
    sys.exit(1 if wrong or not pairs or not changes else 0)


if __name__ == "__main__":
    main()
