.PHONY: quickstart test lint

quickstart test lint:
	python3 dev.py $@
