defmodule Koma.AdminClusterTest do
  use Koma.ClusterCase, async: false

  @moduletag timeout: 180_000

  test "an operator sees and drains the model node of another peer", context do
    names = names(context, ~w(g w))
    gateway = start_peer(context, names, 0, roles: [:gateway], models: [])
    worker = start_peer(context, names, 1, roles: [:worker])
    await_cluster([gateway, worker], 1)
    name = "toy-1@#{Enum.at(names, 1)}"

    assert [%{"node" => ^name, "state" => "ready", "running" => nil}] =
             call(gateway, Koma.Admin, :nodes, [])

    order = fn order -> call(gateway, Koma.Admin, :act, [{:order, name, order}, %Caller{}]) end
    assert order.(:drain) == :ok
    eventually(fn -> match?([%{"state" => "drained"}], call(gateway, Koma.Admin, :nodes, [])) end)
    job = submit!(gateway, %{"steps" => 1})
    assert order.(:resume) == :ok
    assert %{type: "completed"} = List.last(await_end(gateway, job["id"]))
    assert order.(:unload) == :ok

    eventually(fn -> match?([%{"state" => "unloaded"}], call(gateway, Koma.Admin, :nodes, [])) end)

    assert {:error, %{code: "conflict"}} = order.(:drain)
    kill(worker)
    eventually(fn -> call(gateway, Koma.Admin, :nodes, []) == [] end)
    assert {:error, %{code: "not_found"}} = order.(:drain)
  end
end
