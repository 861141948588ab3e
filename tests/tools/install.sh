# Sourced by tests/run and by the wrappers beside it: installs what the tests run against into the cache folder.
#
# The cache is $POSTERN_CACHE, or .cache in the repository. Each tool has a lock file here and a stamp in the cache that names the lock
# file's hash and the interpreter: a second run touches no network. Every function prints its result on stdout, progress on
# stderr, and says the reason when it fails.

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo_root=$(cd "$tools_dir/../.." && pwd)
cache_dir=${POSTERN_CACHE:-$repo_root/.cache}
mkdir -p "$cache_dir"
# One spelling for one folder: the stamps hold it, and by another name everything would be installed again.
cache_dir=$(cd "$cache_dir" && pwd -P)

say() { printf '%s\n' "$*" >&2; }

# The first Python that is new enough and can make virtual environments. 3.11 first: the lock files were made with it.
find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3.10 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
      command -v "$candidate"
      return 0
    fi
  done
  say "no Python >= 3.10 with the venv module was found (Debian: apt-get install python3-venv)"
  return 1
}

# Holds the cache's lock while a command runs, so that two runs do not install into the same folder.
locked() {
  mkdir -p "$cache_dir"
  if command -v flock >/dev/null; then
    ( flock 9 && "$@" ) 9>"$cache_dir/lock"
  else
    "$@"
  fi
}

# install_venv NAME: a virtual environment with exactly what NAME-requirements.txt pins; prints its path.
install_venv() { locked install_venv_unlocked "$1"; }

install_venv_unlocked() {
  local name=$1 lock=$tools_dir/$1-requirements.txt venv=$cache_dir/$1 log=$cache_dir/$1.log python stamp
  python=$(find_python) || return 1
  stamp="$(sha256sum "$lock" | cut -d' ' -f1) $("$python" -c 'import sys; print(sys.version.split()[0])') $venv"
  if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    printf '%s\n' "$venv"
    return 0
  fi
  say "installing $name into $venv ($(grep -c == "$lock") pinned packages)"
  rm -rf "$venv"
  # --no-deps: the lock file is the whole set; resolving again could pull in releases that break these tools.
  # The lock on the cache (descriptor 9) is not for the children.
  if ! { "$python" -m venv "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps -r "$lock"; } >"$log" 2>&1 9>&-; then
    say "$name cannot be installed; the end of $log:"
    tail -n 5 "$log" >&2
    return 1
  fi
  printf '%s\n' "$stamp" >"$venv/.stamp"
  printf '%s\n' "$venv"
}

# install_promtool: promtool from the PATH or from Debian's package, unpacked without installing it; prints its path.
install_promtool() { locked install_promtool_unlocked; }

install_promtool_unlocked() {
  local dir=$cache_dir/promtool
  if [ -x "$dir/promtool" ] && "$dir/promtool" --version >/dev/null 2>&1; then
    printf '%s\n' "$dir/promtool"
    return 0
  fi
  if command -v promtool; then return 0; fi
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "promtool is not on the PATH, and there is no apt-get to fetch it with (install Prometheus' promtool)"
    return 1
  fi
  say "installing promtool into $dir (Debian package prometheus)"
  rm -rf "$dir" && mkdir -p "$dir"
  local log=$cache_dir/promtool.log
  if ! { cd "$dir" && { apt-get download prometheus || { [ "$(id -u)" = 0 ] && apt-get update && apt-get download prometheus; }; } &&
    dpkg-deb -x prometheus_*.deb tree && mv tree/usr/bin/promtool . && rm -rf tree prometheus_*.deb; } >"$log" 2>&1; then
    say "promtool cannot be installed; the end of $log:"
    tail -n 5 "$log" >&2
    return 1
  fi
  "$dir/promtool" --version >/dev/null 2>&1 || { say "the promtool that was unpacked does not start"; return 1; }
  printf '%s\n' "$dir/promtool"
}

# install_ceph: Ceph's daemons from Debian's packages; prints the gateway's path. They run as root, and so does their installation.
install_ceph() { locked install_ceph_unlocked; }

install_ceph_unlocked() {
  local log=$cache_dir/ceph.log tool missing=()
  for tool in ceph-mon ceph-osd ceph ceph-authtool monmaptool radosgw-admin radosgw; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [ "$(id -u)" != 0 ]; then
    say "Ceph's daemons need root here, and this is not root (its tests are skipped; CI, which skips nothing, needs root)"
    return 1
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
      say "there is no ${missing[*]} on the PATH, and no apt-get to install Ceph with (packages radosgw ceph-mon ceph-osd ceph-common)"
      return 1
    fi
    say "installing Ceph (Debian packages radosgw ceph-mon ceph-osd ceph-common; some 70 MB, a minute)"
    # The lock on the cache (descriptor 9) is not for the children.
    if ! apt_install radosgw ceph-mon ceph-osd ceph-common >"$log" 2>&1 9>&-; then
      say "Ceph cannot be installed; the first troubles and the end of $log:"
      grep -m 3 -E '^(Err|E|W):' "$log" >&2
      tail -n 5 "$log" >&2
      return 1
    fi
  fi
  command -v radosgw || { say "the packages are installed, and yet there is no radosgw on the PATH"; return 1; }
}

# apt_install PACKAGE...: as root, asking nobody, starting no service, and patient with another apt that is at work and with mirrors.
apt_install() (
  export DEBIAN_FRONTEND=noninteractive
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  # The lists' lock knows no timeout. Lists that cannot be fetched anew may still be good enough to install from.
  for attempt in 1 2 3 4 5; do
    apt-get "${options[@]}" update && break
    [ "$attempt" = 5 ] || sleep $((attempt * 3))
  done
  apt-get "${options[@]}" install -y --no-install-recommends "$@"
)

# --- servers -------------------------------------------------------------------------------------------------------------------

# free_port PYTHON [NTH]: the NTH of POSTERN_TEST_PORTS, which the tests have reserved for the servers that they start; without
# them one that the system has to give, which may be somebody else's a moment later.
free_port() {
  local reserved
  read -r -a reserved <<<"${POSTERN_TEST_PORTS:-}"
  if [ -n "${2:-}" ] && [ "$2" -le "${#reserved[@]}" ]; then
    printf '%s\n' "${reserved[$2 - 1]}"
    return 0
  fi
  "$1" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_http PYTHON URL PID SECONDS: until URL answers with any status; fails at once when PID is gone.
wait_http() {
  "$1" - "$2" "$3" "$4" <<'PY'
import http.client, os, sys, time, urllib.error, urllib.request

url, pid, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        sys.exit("it ended before it answered")
    try:
        opener.open(url, timeout=10).read()
        sys.exit(0)
    except urllib.error.HTTPError:
        sys.exit(0)
    except (OSError, http.client.HTTPException):
        time.sleep(0.1)
sys.exit(f"no answer within {seconds:.0f} s")
PY
}

# launch STATE_DIR COMMAND...: starts a server in a session of its own, its output in STATE_DIR/log, its id in STATE_DIR/pid.
# With POSTERN_TEST_OWNER, a process id, it does not outlive that process, which a kill -9 keeps from stopping it.
launch() {
  local state=$1
  shift
  setsid "$@" >"$state/log" 2>&1 </dev/null &
  printf '%s\n' "$!" >"$state/pid"
  # tests/run stops what a killed test left behind.
  if [ -n "${POSTERN_TEST_PIDS:-}" ]; then printf '%s\n' "$state" >"$POSTERN_TEST_PIDS/$!"; fi
  if [ -n "${POSTERN_TEST_OWNER:-}" ]; then outlive_nobody "$state" "$!" "$POSTERN_TEST_OWNER" >/dev/null 2>&1 </dev/null & fi
}

outlive_nobody() {
  while kill -0 "$2" && kill -0 "$3"; do sleep 1; done
  kill -0 "$3" || stop_server "$1"
}

# stop_server STATE_DIR: ends what launch started there, and only that.
stop_server() {
  local state=$1 pid tick
  pid=$(cat "$state/pid" 2>/dev/null) || return 0
  # The number may belong to a stranger by now: ours has its state folder as working directory.
  if [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -f "$state")" ]; then
    kill -TERM -- "-$pid" 2>/dev/null || true
    for tick in $(seq 1 50); do
      kill -0 "$pid" 2>/dev/null || break
      [ "$tick" = 50 ] && { kill -KILL -- "-$pid" 2>/dev/null || true; }
      sleep 0.1
    done
  fi
  rm -f "$state/pid"
}

# How long a server may take to come up, on a machine that compiles and tests besides. One that ends by itself is not waited for.
server_seconds=180

# serve_until_up STATE_DIR PYTHON HEALTH_PATH START: START PORT launches the server; prints its endpoint. A port can be taken between
# choosing and binding it, so a server that ended early gets another.
serve_until_up() {
  local state=$1 python=$2 health=$3 start=$4 port tick
  for tick in 1 2 3; do
    port=${server_port:-$(free_port "$python" "$tick")}
    "$start" "$port"
    if wait_http "$python" "http://127.0.0.1:$port$health" "$(cat "$state/pid")" "$server_seconds" >&2; then
      printf 'endpoint=http://127.0.0.1:%s\n' "$port"
      return 0
    fi
    stop_server "$state"
    say "attempt $tick did not come up; the end of $state/log:"
    tail -n 10 "$state/log" >&2
  done
  return 1
}
