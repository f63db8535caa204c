# What a host has that a bare Debian root has not: logs, a history, accounts, jobs. Runs once in the root that rooms share.
set -eu
mkdir -p /var/log/web /srv/git /srv/ci /var/backups/db /var/spool/evaluate
for log in syslog auth.log messages secure cron.log kern.log; do
    [ -e "/var/log/$log" ] || echo "Jan  1 00:00:00 evaluate boot" > "/var/log/$log"
done
[ -e /root/.bash_history ] || printf 'ls\ndf -h\n' > /root/.bash_history
mkdir -p -m 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
id deploy > /dev/null 2>&1 || useradd -m -s /bin/bash deploy
cat > /etc/logrotate.d/web << 'END'
/var/log/web/*.log {
    daily
    rotate 3
    compress
    missingok
    notifempty
}
END
cat > /etc/cron.hourly/web-health << 'END'
#!/bin/sh
curl -fs -o /dev/null http://127.0.0.1:8080/ || echo "web is down" >> /var/log/web/health.log
find /var/spool/evaluate -type f -mmin +60 -delete
END
cat > /etc/cron.daily/disk-report << 'END'
#!/bin/sh
df -P > /var/backups/df.txt
du -sx /var/log | gzip > "/var/backups/logs-$(cat /run/evaluate/date).gz"
END
chmod 755 /etc/cron.hourly/web-health /etc/cron.daily/disk-report
# The line that the evaluation's cron jobs are started by: bash reads the job itself, so that nothing else is executed.
cat > /etc/cron.d/evaluate << 'END'
SHELL=/bin/bash
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
@reboot root cd; source /run/evaluate/cron; echo $? > /run/evaluate/done
END
rm -f /etc/cron.d/e2scrub_all
echo 'APT::Periodic::RandomSleep "0";' > /etc/apt/apt.conf.d/99evaluate
git config --system user.name ci
git config --system user.email ci@localhost
git config --system safe.directory '*'
git config --system init.defaultBranch main
