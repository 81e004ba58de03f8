-- Greets somebody. Run it: pgbridge run hello name=world
-- read_only: true
-- timeout: 2s
SELECT 'hello, ' || CAST(@name AS text) AS greeting, now() AS at;
