#!/bin/bash
# A deployment of a Python program: a wheel built from generated source, installed into a new environment, offline.
# Arguments: seed.
set -eu
RANDOM=$1
work=$(mktemp -d)
mkdir "$work/tool"
printf 'VALUE = %d\n\n\ndef main():\n    print(VALUE)\n' "$RANDOM" > "$work/tool/__init__.py"
cat > "$work/setup.py" << END
from setuptools import setup
setup(name="tool", version="1.$((RANDOM % 100))", packages=["tool"], entry_points={"console_scripts": ["tool=tool:main"]})
END
rm -rf /srv/venv
python3 -m venv /srv/venv
cd "$work"
python3 setup.py -q bdist_wheel > /dev/null 2>&1
/srv/venv/bin/pip install -q --no-index dist/*.whl
/srv/venv/bin/tool > /dev/null
cd /
rm -rf "$work"
