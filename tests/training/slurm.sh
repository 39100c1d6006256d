#!/bin/sh
# A Slurm of one node, this machine, for `make test-cluster`: as root, on Debian, with slurm-wlm and munge installed.
# It writes /etc/slurm/slurm.conf, keeps its state in the folder that is named, and ends with `pkill slurm`.
set -eu
place=${1:-/tmp/slurm}
name=$(hostname -s)
mkdir -p "$place/state" "$place/spool" /run/munge
chown munge: /run/munge
cat > /etc/slurm/slurm.conf <<END
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem/ {print int($2 / 2)}') State=UNKNOWN
PartitionName=cpu Nodes=$name Default=YES MaxTime=INFINITE State=UP
END
pgrep -x munged > /dev/null || su -s /bin/sh munge -c /usr/sbin/munged
slurmctld
slurmd
sinfo
