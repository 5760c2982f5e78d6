defmodule Koma.AdminHTTPTest do
  @moduledoc "`/v1/admin/…` over HTTP."
  use Koma.EdgeCase

  @json {"content-type", "application/json"}

  test "operators see model nodes and queues, and order what they do", %{dir: dir} do
    port = start_server(dir)

    assert [%{"node" => "toy-1", "state" => "ready", "slots" => 2}] =
             json(http(port, "GET", "/v1/admin/nodes"))

    assert {202, _, _} = answer = http(port, "POST", "/v1/admin/nodes/toy-1/drain")
    assert %{"state" => "drained", "order" => "drain"} = json(answer)
    assert {202, _, _} = http(port, "POST", "/v1/admin/nodes/toy-1/resume")

    body = ~s({"checkpoint": "toy-two"})
    assert {202, _, _} = http(port, "POST", "/v1/admin/nodes/toy-1/load", [@json], body)

    eventually(fn ->
      [node] = json(http(port, "GET", "/v1/admin/nodes"))
      node["state"] == "ready" and node["checkpoint"] == "toy-two"
    end)

    assert {200, _, _} = answer = http(port, "POST", "/v1/admin/queues/toy/pause")
    assert [%{"family" => "toy", "paused" => true, "jobs" => 0, "keys" => []}] = json(answer)
    job = submit!()

    assert [%{"jobs" => 1, "keys" => [%{"key" => nil, "jobs" => 1}]}] =
             json(http(port, "GET", "/v1/admin/queues"))

    assert {200, _, _} = http(port, "DELETE", "/v1/admin/jobs/#{job["id"]}")
    assert {:ok, %{"state" => "cancelled"}} = Koma.job(job["id"], %Caller{})
    assert [%{"paused" => false}] = json(http(port, "POST", "/v1/admin/queues/toy/resume"))
  end

  test "what is wrong is named, with its code", %{dir: dir} do
    port = start_server(dir)

    for {method, path, headers, body, status, code, field} <- [
          {"POST", "/v1/admin/nodes/toy-9/drain", [], "", 404, "not_found", "node"},
          {"POST", "/v1/admin/nodes/toy-1/dance", [], "", 404, "not_found", "order"},
          {"POST", "/v1/admin/queues/toy/dance", [], "", 404, "not_found", "order"},
          {"POST", "/v1/admin/queues/none/pause", [], "", 404, "not_found", "family"},
          {"POST", "/v1/admin/nodes/toy-1/load", [@json], "{}", 400, "missing_field",
           "checkpoint"},
          {"POST", "/v1/admin/nodes/toy-1/load", [@json], ~s({"checkpoint": ""}), 400,
           "out_of_bounds", "checkpoint"},
          {"POST", "/v1/admin/nodes/toy-1/load", [@json], ~s({"checkpoint": 7}), 400,
           "wrong_type", "checkpoint"},
          {"POST", "/v1/admin/nodes/toy-1/load", [], "", 415, "unsupported_media",
           "content-type"},
          {"GET", "/v1/admin/nodes/toy-1/drain", [], "", 405, "method_not_allowed", "method"},
          {"DELETE", "/v1/admin/jobs/job_none", [], "", 404, "not_found", nil}
        ] do
      assert {^status, _, _} = answer = http(port, method, path, headers, body)
      assert %{"error" => %{"code" => ^code} = error} = json(answer)
      assert error["field"] == field
    end
  end

  test "nobody but an operator may", %{dir: dir} do
    port = start_server(dir, keys: key("user"))

    for {headers, status, code} <- [
          {[], 401, "unauthorized"},
          {[{"x-api-key", secret("user")}], 403, "forbidden"}
        ],
        {method, path} <- [
          {"GET", "/v1/admin/nodes"},
          {"POST", "/v1/admin/nodes/toy-1/restart"},
          {"POST", "/v1/admin/queues/toy/pause"},
          {"DELETE", "/v1/admin/jobs/job_1"}
        ] do
      assert {^status, _, _} = answer = http(port, method, path, headers)
      assert %{"error" => %{"code" => ^code}} = json(answer)
    end
  end
end
