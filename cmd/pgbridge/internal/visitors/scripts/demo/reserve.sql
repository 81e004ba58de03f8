-- Takes one piece of an item out of the stock. In a transaction the item's row is its
-- own until it ends: others wait for it.
UPDATE stock SET amount = amount - 1 WHERE item = @item RETURNING item, amount;
