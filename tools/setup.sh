#!/usr/bin/env bash
# `make setup`: installs the programs that the tests use, on Debian and Ubuntu, as far as they are missing.
# Without root, sudo or apt-get it prints a line that lists what is missing; tests that need it are skipped then, or fail
# with CI=true.
set -euo pipefail
PYTHON="${PYTHON:-python3}"

has() { command -v "$1" >/dev/null; }
has_python() { "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# The lab's programs are built with Go; the tests make network namespaces, announce IPv6 by FRR, ask by ARP, have L2
# networks on Open vSwitch with dnsmasq and a DHCP client, press TAB in shells, read man pages, and look at pages in a
# browser: Debian's smallest package of Chromium has no window; Ubuntu has Chromium as a snap only.
packages=()
has_python || packages+=(python3 python3-venv)
has go || [ -x /usr/local/go/bin/go ] || packages+=(golang-go)
has ip || packages+=(iproute2)
[ -x /usr/lib/frr/bgpd ] || packages+=(frr)
[ -x /usr/lib/frr/frr-reload.py ] || packages+=(frr-pythontools)
[ -f /usr/share/openvswitch/vswitch.ovsschema ] || packages+=(openvswitch-switch)
has dnsmasq || packages+=(dnsmasq-base)
has udhcpc || packages+=(udhcpc)
has arping || packages+=(iputils-arping)
has ethtool || packages+=(ethtool)
has objdump || packages+=(binutils) # PyInstaller asks it what a program is linked with, and puts libpython beside ours
"$PYTHON" -c 'import ctypes, sysconfig; ctypes.CDLL(sysconfig.get_config_var("INSTSONAME"))' 2>/dev/null ||
  packages+=("libpython$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3)-dev")
has zsh || packages+=(zsh)
has fish || packages+=(fish)
[ -r /usr/share/bash-completion/bash_completion ] || packages+=(bash-completion)
has groff || packages+=(groff-base)
has man || packages+=(man-db)
has chromium-headless-shell || has chromium || has google-chrome || has chromium-browser ||
  if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
    packages+=(chromium-headless-shell)
  else
    packages+=(chromium-browser)
  fi
[ ${#packages[@]} -gt 0 ] || exit 0

root=(false)
if ! has apt-get; then
  :
elif [ "$(id -u)" = 0 ]; then
  root=(env)
elif has sudo && sudo -n true 2>/dev/null; then
  root=(sudo)
elif has sudo && [ -t 0 ] && [ -t 2 ]; then
  read -r -p "The tests need ${packages[*]}. Install with sudo apt-get? [y/N] " answer
  [[ $answer != [yY]* ]] || root=(sudo)
fi
if [ "${root[0]}" = false ]; then
  echo "setup: not installed, what needs it is skipped: ${packages[*]}" >&2
  exit 0
fi
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
