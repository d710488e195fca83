.PHONY: setup test lint types bench-small

setup:
	python install.py

test:
	python -m pytest -n 2

lint:
	ruff check .
	ruff format --check .
	lint-imports

types:
	mypy --strict recbole_fofa/model recbole_fofa/device recbole_fofa/errors.py \
	    recbole_fofa/settings.py recbole_fofa/run_settings.py recbole_fofa/device_profile.py recbole_fofa/packaged.py recbole_fofa/whole_file.py

# Every model on ml-100k, one seed, in less than 20 minutes on 2 cores; then the tables from the lines.
bench-small:
	python benchmarks/head_to_head.py benchmarks/plans/small.yaml --threads 1 --workers 2
	python benchmarks/report.py
