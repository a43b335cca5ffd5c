#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First step of `npm run lab`, `npm test` and others in a fresh clone: npm packages, the pinned Node.js among
# them, which then runs setup.ts. In shell because nothing else can be counted on before that.
# Usage: setup.sh lab|test|kernels|bench|all
cd "$(dirname "$0")/.." || exit 1

installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ] || [ package.json -nt "$installed" ]; then
	echo "setup: installing npm packages"
	if ! log=$(npm install --no-audit --no-fund 2>&1); then
		echo "$log" | tail -n 20 >&2
		echo "setup: npm install failed: make the package registry reachable, then run this again" >&2
		exit 1
	fi
	touch "$installed"
fi
if ! node_modules/.bin/node --version >/dev/null 2>&1; then
	echo "setup: the package node did not get its program: run 'npm rebuild node', then run this again" >&2
	exit 1
fi
exec node_modules/.bin/node tools/setup.ts "$@"
