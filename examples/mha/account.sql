-- MHA's account, on every server. Change the password; it goes into /etc/mha/app1.cnf.
SET SESSION sql_log_bin = 0;
CREATE USER mha@'10.77.0.%' IDENTIFIED BY 'change-me';
GRANT ALL PRIVILEGES ON *.* TO mha@'10.77.0.%';
