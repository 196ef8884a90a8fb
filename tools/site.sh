#!/usr/bin/env bash
# Builds the documentation into target/site and checks its links; run in the environment where the extra `docs` is installed.
# The package itself need not be: its sources are read. Any warning fails.
set -euo pipefail
cd "$(dirname "$0")/.."

NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
python tools/site/links.py target/site
