"""How Sphinx builds these pages: ``sphinx-build -W --keep-going -n docs docs/_build/html``.

Nothing is downloaded: `inventories` writes what intersphinx would fetch.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # extensions.py and inventories.py; the package
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import inventories  # noqa: E402

import kmedclf  # noqa: E402

project = "kmedclf"
author = "The kmedclf developers"
copyright = author
version = release = kmedclf.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "extensions",
]
root_doc = "index"
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py"]
default_role = "py:obj"  # `name` in docstrings is a link
nitpicky = True
# Types in prose ("array-like", "n paths") and what libraries without an inventory of ours define.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!kmedclf\.).*"),
    (r"py:.*", r"kmedclf\.(runs\.read_data|evaluation\.scores\.SCORES|studies\.(subsets|words))"),
]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # commands in cells of notebooks
nb_execution_mode = "off"  # notebooks carry their results; tests execute them

intersphinx_mapping = inventories.write(HERE / "_build" / "inventories")

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",  # cheap enough to execute; the others are shown
    "ignore_pattern": r"(assignment|study_script)\.py",
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "kmedclf"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["kmedclf.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    # Pages of wide tables have no table of contents, whose place they take.
    "secondary_sidebar_items": {"**": ["page-toc"], "comparison": [], "choosing": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 4,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
