.PHONY: setup test lint types

setup:
	python install.py

test:
	python -m pytest

lint:
	ruff check .
	ruff format --check .
	lint-imports

types:
	mypy --strict recbole_fofa/model recbole_fofa/device recbole_fofa/errors.py \
	    recbole_fofa/settings.py recbole_fofa/device_profile.py recbole_fofa/packaged.py recbole_fofa/whole_file.py
