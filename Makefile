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

# One seed of ml-100k's row in the README's first table, in less than 20 minutes on 2 cores. The runs
# are done anew, in a folder of their own (remove it to do them once more), and go on if stopped.
bench-small: export BENCH_RESULTS = benchmarks/anew/results
bench-small:
	python benchmarks/head_to_head.py benchmarks/plans/ml-100k.yaml --seeds 1 --workers 2 \
	    --models 'ForwardOFA, input 20, adapts on 200' 'static backbone' \
	    'static backbone, repeat bias' DUET 'static backbone, input 20' \
	    'static backbone, input 20, repeat bias'
	python benchmarks/significance.py --reference 'ForwardOFA, input 20, adapts on 200'
	python benchmarks/summary.py
	python benchmarks/head_to_head_tables.py
