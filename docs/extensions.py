"""Directives of these pages: what is measured, and what the code says, is not typed again."""

import inspect
from typing import ClassVar

import results
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from numpydoc.docscrape import NumpyDocString
from sphinx.util.docutils import SphinxDirective


class Written(SphinxDirective):
    """A directive that writes Markdown."""

    def parsed(self, text: str) -> list[nodes.Node]:
        node = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), "generated"), 0, node)
        return node.children


class Measured(Written):
    """A section of benchmarks/RESULTS.md, or one of its tables, counted from 1."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"table": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(results.RESULTS))
        if "table" not in self.options:
            return self.parsed(results.section(self.arguments[0]))
        return self.parsed(results.tables(self.arguments[0])[self.options["table"] - 1])


class Parameters(Written):
    """Shared training parameters with their types, defaults and words, from their docstring."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        from kmedclf.parameters import TrainingParameters

        known = {
            one.name: one
            for one in NumpyDocString(inspect.getdoc(TrainingParameters))["Parameters"]
        }
        lines = []
        for name in " ".join(self.content).split():
            words = "\n  ".join(line or "" for line in known[name].desc)
            lines += [f"**{name}** : {known[name].type}", f": {words}", ""]
        return self.parsed("\n".join(lines))


class Recipes(Written):
    """What the recipes set, for one network."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import kmedclf
        from kmedclf import recipes

        cls = getattr(kmedclf, self.arguments[0])
        sets = {
            name: recipes.parameters(cls(recipe=name)) for name in ("reference", "fast", "best")
        }
        plain = cls().get_params()
        auto = [name for name, value in plain.items() if isinstance(value, str) and value == "auto"]
        lines = ["| parameter | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
        for name in sorted(set(auto) - {"recipe"}):
            values = " | ".join(f"`{chosen[name]!r}`" for chosen in sets.values())
            lines.append(f"| `{name}` | {values} |")
        return self.parsed("\n".join(lines))


WHOLE = {"measured": results.RESULTS, "changelog": results.RESULTS.parents[1] / "CHANGELOG.md"}
"""Pages that are a file from elsewhere."""

LINKS = {
    "(docs/clients.md)": "(clients.md)",
    "(docs/promises.md)": "(promises.md)",
    "(benchmarks/RESULTS.md)": "(measured.md)",
    "[README](README.md)": "`benchmarks/README.md`",
    "[CONTRIBUTING](CONTRIBUTING.md)": "`CONTRIBUTING.md`",
}
"""Links of those files, as they are between these pages."""


def whole(app, docname: str, source: list[str]) -> None:
    """Put a file from elsewhere in the place of a page."""
    if docname in WHOLE:
        app.env.note_dependency(str(WHOLE[docname]))
        title = source[0].partition("\n")[0]
        text = WHOLE[docname].read_text(encoding="utf-8").partition("\n")[2]
        for there, here in LINKS.items():
            text = text.replace(there, here)
        source[0] = f"{title}\n{text}"


def setup(app):
    """Register the directives, and the pages that are files from elsewhere."""
    app.connect("source-read", whole)
    for one in (Measured, Parameters, Recipes):
        app.add_directive(one.__name__.lower(), one)
    return {"parallel_read_safe": True}
