#!/usr/bin/env bash
# Start or stop a Slurm cluster of one node on the loopback address, to try and to test sweeps.
# Run it as root on Debian or Ubuntu, after `apt-get install slurmd slurmctld munge`:
#
#   scripts/slurm_on_loopback.sh start /tmp/slurm [gpus]    # default: 2 simulated GPUs
#   export SLURM_CONF=/tmp/slurm/slurm.conf
#   scripts/slurm_on_loopback.sh stop /tmp/slurm
#
# All files are written to the folder. The simulated GPUs are terminal devices that no job opens:
# Slurm counts them and assigns each job its own.
set -euo pipefail
usage="usage: $0 start|stop FOLDER [GPUS]"
action=${1:?$usage} folder=$(realpath -m "${2:?$usage}") gpus=${3:-2}
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin

stop() {
    for daemon in slurmd slurmctld munged; do
        if [ -s "$folder/$daemon.pid" ]; then
            pid=$(cat "$folder/$daemon.pid")
            kill "$pid" 2>/dev/null || true
            for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
            rm -f "$folder/$daemon.pid"
        fi
    done
}

start() {
    for program in munged slurmctld slurmd sinfo; do
        command -v $program >/dev/null || { echo "error: $program: not found; apt-get install slurmd slurmctld munge" >&2; exit 2; }
    done
    [ "$(id -u)" = 0 ] || { echo "error: Slurm's daemons must be started as root" >&2; exit 2; }
    mkdir -p "$folder/state" "$folder/spool"
    chmod 755 "$folder"
    head -c 128 /dev/urandom >"$folder/munge.key"
    chmod 600 "$folder/munge.key"
    host=$(hostname -s)
    cat >"$folder/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0
ReturnToService=2
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=1000 Gres=gpu:$gpus State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
    echo "NodeName=$host Name=gpu File=/dev/tty[0-$((gpus - 1))]" >"$folder/gres.conf"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munged.seed" 2>>"$folder/munged.log"
    slurmctld -c
    slurmd -c
    for _ in $(seq 100); do
        if sinfo -h -o %T 2>/dev/null | grep -q idle; then
            echo "ready: export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.3
    done
    echo "error: the node does not become idle; see $folder/*.log" >&2
    tail -n 5 "$folder"/*.log >&2
    stop
    exit 1
}

case $action in
    start) start ;;
    stop) stop ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
