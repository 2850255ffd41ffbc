# The first process of a lab host: builds a machine of its own out of this one, then waits until
# whoever holds its standard input is gone. When it ends, the kernel kills everything in the host.
set -e
# /proc is still the machine's, so this is our pid as the machine sees it.
read -r pid _ < /proc/self/stat

# The whole file system is the machine's, copied on write into memory that dies with the host.
mount -t tmpfs -o mode=0755 lab /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work lab /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=0755 lab dev
for device in null zero full random urandom tty; do
    : > dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
mkdir -m 1777 dev/shm
mount -t tmpfs -o mode=0755 lab run
chmod 1777 tmp
# A hookbox or keepalived that the machine itself has is none of the host's, nor are its keys.
rm -rf etc/hookbox etc/keepalived/* usr/sbin/hookbox var/lib/hookbox var/log/hookbox root/.ssh
pivot_root . mnt
umount -l mnt

echo "$1" > /proc/sys/kernel/hostname
if [ -e /proc/sys/net/ipv6/conf/default/disable_ipv6 ]; then
    echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
fi
ip link set lo up

echo "$pid"
# A shell that waits reaps orphans as well, as the first process of a machine must. The standard
# input of what runs in the background is /dev/null, whatever it was: hence the 3.
exec 3<&0
cat <&3 > /dev/null &
wait $!
