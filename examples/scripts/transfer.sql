-- Moves an amount from one account to another. The tables' constraints refuse
-- an unknown account, an amount below zero and an overdraft.
-- isolation: serializable
-- timeout: 5s
INSERT INTO transfer (source, target, amount) VALUES (@source, @target, @amount);
UPDATE account SET balance = balance - @amount WHERE id = @source;
UPDATE account SET balance = balance + @amount WHERE id = @target;
