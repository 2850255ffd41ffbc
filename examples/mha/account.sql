-- MariaDB 10.11.6: as root, on every server. Not replicated, so that no server has transactions that
-- the others lack. Put a password of your own in the place of change-me.
SET SESSION sql_log_bin = 0;

-- MHA's account; its password is that of MHA's configuration and of [mha].
CREATE USER 'mha'@'10.77.0.%' IDENTIFIED BY 'change-me';
--   ALL PRIVILEGES: MHA applies the difference of relay logs, which may hold any statement
GRANT ALL PRIVILEGES
    ON *.* TO 'mha'@'10.77.0.%';
