#!/usr/bin/env bash
# Gets what the browser tests need, where it is not there: chromium (apt), axe-core (npm), playwright (pip).
# usage: tests/browser/setup.sh PYTHON; prints where axe-core is: below ${XDG_CACHE_HOME:-~/.cache}/thawline-browser, outside the tree.
set -euo pipefail
python=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/thawline-browser
axe=4.14.1

installed() { command -v "$1" >/dev/null 2>&1; }
install() {
  if [ "$(id -u)" -ne 0 ] || ! installed apt-get; then
    echo "The browser tests need $1, which only root can install here; type: sudo apt-get install $1" >&2
    exit 1
  fi
  echo "Installing $1 ..." >&2
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

[ -n "${CHROMIUM:-}" ] || installed chromium || install chromium fonts-dejavu-core
"$python" -c 'import playwright' 2>/dev/null || "$python" -m pip install --disable-pip-version-check --quiet "playwright>=1.50"
if [ ! -f "$cache/$axe/node_modules/axe-core/axe.min.js" ]; then
  installed npm || install npm
  npm install --silent --no-audit --no-fund --prefix "$cache/$axe" "axe-core@$axe" >/dev/null 2>&1 || {
    echo "axe-core could not be installed from the npm registry; is there a network?" >&2
    exit 1
  }
fi
echo "$cache/$axe/node_modules/axe-core/axe.min.js"
