defmodule Koma.HTTP.Admin do
  @moduledoc "`/v1/admin/…`: what operators see and do: model nodes, queues, anybody's jobs."

  @behaviour Koma.HTTP.Handler

  alias Koma.{Admin, Error, Params, Shown}
  alias Koma.HTTP.{Body, Reply}

  @orders ~w(drain restart load unload resume)

  @impl true
  def methods(action) when action in [:nodes, :queues], do: ["GET", "HEAD"]
  def methods(:job), do: ["DELETE"]
  def methods(_order), do: ["POST"]

  @impl true
  def access(_action), do: :operator

  @impl true
  def handle(action, _method, req, operator), do: answer(action, req, operator)

  defp answer(:nodes, req, _operator), do: {:ok, Reply.json(req, 200, Admin.nodes())}
  defp answer(:queues, req, _operator), do: {:ok, Reply.json(req, 200, Admin.queues())}

  defp answer(:job, req, operator) do
    with :ok <- Admin.act({:cancel, binding(:id, req)}, operator) do
      {:ok, Reply.json(req, 200, %{})}
    end
  end

  # It is carried out when the running jobs are done: the answer tells how far it is.
  defp answer(:node, req, operator) do
    name = binding(:name, req)

    with {:ok, order, req} <- order(binding(:order, req), req),
         :ok <- Admin.act({:order, name, order}, operator),
         {:ok, node} <- Admin.node_named(name) do
      {:ok, Reply.json(req, 202, node)}
    end
  end

  defp answer(:queue, req, operator) do
    with {:ok, what} <- what(binding(:order, req)),
         :ok <- Admin.act({what, binding(:family, req)}, operator) do
      {:ok, Reply.json(req, 200, Admin.queues())}
    end
  end

  defp order("load", req) do
    with {:ok, body, req} <- Body.json_object(req),
         {:ok, %{"checkpoint" => checkpoint}} <-
           Params.check(body, %{"checkpoint" => {:string, :required}}),
         :ok <- Admin.check_checkpoint(checkpoint) do
      {:ok, {:load, checkpoint}, req}
    end
  end

  defp order(name, req) when name in @orders, do: {:ok, String.to_existing_atom(name), req}
  defp order(name, _req), do: {:error, unknown(name, @orders)}

  defp what("pause"), do: {:ok, :pause}
  defp what("resume"), do: {:ok, :resume}
  defp what(name), do: {:error, unknown(name, ~w(pause resume))}

  defp unknown(name, known) do
    message = "There is no order #{Shown.text(name)}; known are #{Enum.join(known, ", ")}."
    Error.new("not_found", message, field: "order", value: name, bound: known)
  end

  defp binding(name, req), do: :cowboy_req.binding(name, req)
end
