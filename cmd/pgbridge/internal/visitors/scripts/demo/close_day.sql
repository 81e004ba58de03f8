-- Closes the day, which takes a few seconds: a job.
SELECT pg_sleep(4);
SELECT count(*) AS orders, coalesce(sum(total), 0) AS total FROM orders;
