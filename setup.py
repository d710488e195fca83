"""Packaging. Settings of tools are in pyproject.toml, the tested versions in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "recbole_fofa/__init__.py").read_text())[1]

# RecBole 1.2.1 requires ray<=2.6.3, which has no wheel for Python 3.12 and later. There it is
# installed without its own requirements (see install.py); those that it does use are listed here.
RECBOLE = 'recbole==1.2.1; python_version < "3.12"'
USED_BY_RECBOLE = [
    f'{name}; python_version >= "3.12"'
    for name in (
        "colorama",
        "colorlog",
        "plotly",
        "psutil",
        "scikit-learn",
        "setuptools",
        "tensorboard",
        "texttable",
        "thop",
    )
]
ONNX = ["onnx>=1.16", "onnxruntime>=1.18"]
PLOTS = ["matplotlib>=3.8"]
TUNE = ["optuna>=4"]

setup(
    name="recbole_fofa",
    version=VERSION,
    description="Forward-OFA (KDD 2025) for RecBole: per-user structure and parameters",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.14",
    packages=[
        *find_packages(include=["recbole_fofa", "recbole_fofa.*"]),
        "recbole_fofa.properties",
    ],
    package_dir={"recbole_fofa.properties": "properties"},
    package_data={"recbole_fofa.properties": ["*.yaml", "*/*.yaml", "*/*/*.yaml"]},
    install_requires=[
        RECBOLE,
        *USED_BY_RECBOLE,
        "torch>=2.4",
        "numpy>=1.26",
        "pandas>=2.2",
        "scipy>=1.11",
        "pyyaml>=6",
        "pydantic>=2.6",
        "safetensors>=0.4.3",
        "tqdm>=4.60",
        "tabulate>=0.9",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff",
            "mypy",
            "import-linter",
            "types-PyYAML",
            "playwright>=1.40",
            *ONNX,
            *PLOTS,
            *TUNE,
        ],
        "plots": PLOTS,
        "onnx": ONNX,
        "tune": TUNE,
    },
    entry_points={
        "console_scripts": [
            "recbole_fofa=recbole_fofa.command_line:main",
            "run_recbole_fofa=recbole_fofa.command_line:main",
        ]
    },
)
