#!/usr/bin/env bash
# A SLURM of one node on this machine, to see `./run_all.sh --executor slurm` at work. As root, on
# Debian or Ubuntu, also in a container: it uses neither systemd nor cgroups nor a database.
#
#   single_node.sh start [FOLDER]    begin; FOLDER (/tmp/gz2vit-slurm) takes settings and logs
#   single_node.sh stop [FOLDER]     end what was begun, and remove FOLDER
#
# The node has 4 processor cores and 2 GPUs, whatever the machine has: enough for two jobs side by
# side. SLURM counts them and checks no more, so that the GPUs may be any two devices. All commands
# find this SLURM where SLURM's own programs on a machine without settings would put theirs (LINK):
# Snakemake's executor takes SLURM_CONF out of the jobs' environment.
set -euo pipefail

action="${1:-}"
folder="$(realpath --canonicalize-missing -- "${2:-/tmp/gz2vit-slurm}")"
export SLURM_CONF="$folder/slurm.conf"
LINK=/run/slurm/conf/slurm.conf

fail() {
    echo "error: $*" >&2
    exit 1
}

# The programs must be there: nothing is installed unasked.
check() {
    [ "$(id -u)" -eq 0 ] || fail "SLURM's programs must be started by root"
    for program in munged slurmctld slurmd sbatch; do
        command -v "$program" >/dev/null ||
            fail "$program is missing: apt-get install -y slurmctld slurmd munge slurm-client"
    done
    [ ! -e "$folder" ] || fail "$folder is there already: give '$0 stop $folder' first"
    for settings in /etc/slurm/slurm.conf "$LINK"; do
        [ ! -e "$settings" ] || fail "there is a SLURM on this machine already: $settings"
    done
}

# A munge of our own, so that one that runs already stays untouched.
write_settings() {
    local host memory_mb
    host="$(hostname -s)"
    memory_mb="$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)"
    mkdir -p "$folder"/{state,spool,munge}
    (umask 077 && dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none)
    cat >"$folder/gres.conf" <<END
NodeName=$host Name=gpu File=/dev/null
NodeName=$host Name=gpu File=/dev/zero
END
    cat >"$folder/slurm.conf" <<END
ClusterName=gz2vit
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# No cgroups; a job's processes are known by their parents.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# The node is what the next lines say, more or less than the machine has.
SlurmdParameters=config_overrides
# An ended job is remembered so long, which is how its state is learned without accounts. [s]
MinJobAge=600
KillWait=5
ReturnToService=2
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=$memory_mb Gres=gpu:2
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    mkdir -p "$(dirname "$LINK")"
    ln -sfn "$SLURM_CONF" "$LINK"
}

start() {
    check
    write_settings
    munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
        --seed-file="$folder/munge/seed"
    slurmctld
    slurmd
    for _ in $(seq 30); do
        if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
            echo "SLURM is ready: node $(hostname -s), 4 cores, 2 GPUs; logs in $folder"
            return
        fi
        sleep 1
    done
    tail -n 5 "$folder"/slurmctld.log "$folder"/slurmd.log >&2
    stop
    fail "the node did not become idle; the reason stands above"
}

# Whether a program that wrote down its number still runs; numbers are given anew after a restart.
runs() {
    local program="$1" pid
    pid="$(cat "$2" 2>/dev/null)" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$program" ] &&
        ! grep -q '^State:.*zombie' "/proc/$pid/status" 2>/dev/null
}

# End such a program, and wait until it has ended.
end() {
    runs "$@" || return 0
    kill "$(cat "$2")"
    for _ in $(seq 100); do
        runs "$@" || return 0
        sleep 0.1
    done
    kill -9 "$(cat "$2")" 2>/dev/null || true
}

# Cancel all jobs and see their processes end, which only slurmd can do.
cancel() {
    runs slurmctld "$folder/slurmctld.pid" || return 0
    scancel --user=root || true
    for _ in $(seq 20); do
        [ -n "$(squeue --noheader 2>/dev/null)" ] || return 0
        sleep 0.5
    done
}

stop() {
    [ -e "$folder" ] || return 0
    grep -qs '^ClusterName=gz2vit$' "$SLURM_CONF" || fail "$folder was not made by '$0 start'"
    cancel
    end slurmd "$folder/slurmd.pid"
    end slurmctld "$folder/slurmctld.pid"
    end munged "$folder/munge/pid"
    [ "$(readlink "$LINK")" != "$SLURM_CONF" ] || rm -f "$LINK"
    rm -rf -- "$folder"
}

case "$action" in
    start | stop) "$action" ;;
    *) fail "give '$0 start [FOLDER]' or '$0 stop [FOLDER]'" ;;
esac
